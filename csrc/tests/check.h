// What the test programs share: a check that names its line, and a generator of random numbers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// Ends the program with code 1 where a condition does not hold.
#define CHECK(condition)                                                                      \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);           \
      std::exit(1);                                                                           \
    }                                                                                         \
  } while (false)

namespace alf {

// xorshift64* of https://doi.org/10.1145/2845077: small, and the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Dull;
  }
  int64_t below(int64_t bound) { return static_cast<int64_t>((next() >> 33) % static_cast<uint64_t>(bound)); }
  double unit() { return static_cast<double>(next() >> 11) * (1.0 / 9007199254740992.0); }

 private:
  uint64_t state_;
};

// How much to do: the factor on the command line, 1 without.
inline int64_t rounds(int argc, char** argv, int64_t usual) {
  return usual * (argc > 1 ? std::atoll(argv[1]) : 1);
}

}  // namespace alf
