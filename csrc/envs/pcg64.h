// The random numbers of numpy.random.Generator(PCG64): PCG XSL RR 128/64 of https://www.pcg-random.org, and doubles
// from it as Generator.uniform draws them. The state comes from NumPy, which knows how to make one from a seed.
#pragma once

#include <cstdint>

namespace alf {

class Pcg64 {
 public:
  static constexpr int kNumWords = 4;  // high and low half of the state, high and low half of the increment

  void load(const uint64_t* words) {
    state_ = join(words[0], words[1]);
    increment_ = join(words[2], words[3]);
  }

  void save(uint64_t* words) const {
    words[0] = static_cast<uint64_t>(state_ >> 64);
    words[1] = static_cast<uint64_t>(state_);
    words[2] = static_cast<uint64_t>(increment_ >> 64);
    words[3] = static_cast<uint64_t>(increment_);
  }

  double uniform(double low, double high) {
    const double unit = static_cast<double>(next() >> 11) * (1.0 / 9007199254740992.0);
    return low + (high - low) * unit;
  }

 private:
  using Word128 = unsigned __int128;

  static Word128 join(uint64_t high, uint64_t low) { return (static_cast<Word128>(high) << 64) | low; }

  uint64_t next() {
    state_ = state_ * join(0x2360ED051FC65DA4ull, 0x4385DF649FCCF645ull) + increment_;
    const uint64_t mixed = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
    const unsigned turns = static_cast<unsigned>(state_ >> 122);
    return (mixed >> turns) | (mixed << ((64 - turns) & 63));
  }

  Word128 state_ = 0, increment_ = 1;
};

}  // namespace alf
