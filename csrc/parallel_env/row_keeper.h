// What a host does for all its rows at once, before and after its environments have written one time step: previous
// actions, marks of unwritten rows, and the search for NaN and infinity.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace alf {

constexpr int32_t kFirst = 0;
constexpr int32_t kUnwritten = -1;  // step type of a row whose environment has not finished its step

// Index of the first element that is NaN or infinite, or -1. `Bits` is the unsigned integer as wide as the float.
// The test runs over blocks without a branch, so that the compiler vectorizes it.
template <typename Bits, Bits kExponent>
int64_t first_non_finite(const void* data, int64_t count) {
  const Bits* bits = static_cast<const Bits*>(data);
  constexpr int64_t kBlock = 256;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = begin + kBlock < count ? begin + kBlock : count;
    Bits any = 0;
    for (int64_t i = begin; i < end; ++i) any |= static_cast<Bits>((bits[i] & kExponent) == kExponent);
    if (!any) continue;
    for (int64_t i = begin; i < end; ++i) {
      if ((bits[i] & kExponent) == kExponent) return i;
    }
  }
  return -1;
}

inline int64_t first_non_finite(const void* data, int64_t count, int64_t float_bytes) {
  switch (float_bytes) {
    case 2: return first_non_finite<uint16_t, 0x7C00u>(data, count);
    case 4: return first_non_finite<uint32_t, 0x7F800000u>(data, count);
    case 8: return first_non_finite<uint64_t, 0x7FF0000000000000ull>(data, count);
    default: return -1;
  }
}

// A block [R, B, ...] (or [B, ...], with ring stride 0) in shared memory.
struct Block {
  char* data;
  int64_t ring_stride;   // bytes from one ring row to the next
  int64_t row_bytes;     // bytes of one environment
  int64_t float_bytes;   // size of one element if it is a floating point type, else 0

  char* at(int64_t ring_row, int64_t row) const { return data + ring_row * ring_stride + row * row_bytes; }
};

struct BadValue {
  int64_t block;   // index into the checked blocks, or -1: all are finite
  int64_t row;     // environment
  int64_t offset;  // element within the environment's part
};

class RowKeeper {
 public:
  RowKeeper(Block step_type, std::vector<Block> prev_actions, std::vector<Block> actions, std::vector<Block> checked)
      : step_type_(step_type), prev_actions_(prev_actions), actions_(actions), checked_(checked) {}

  // Marks the rows as unwritten and takes over their actions; returns the first action that is not finite.
  BadValue begin(int64_t ring_row, int64_t start, int64_t stop) const {
    int32_t* types = reinterpret_cast<int32_t*>(step_type_.at(ring_row, 0));
    for (int64_t i = start; i < stop; ++i) types[i] = kUnwritten;
    for (size_t k = 0; k < actions_.size(); ++k) {
      std::memcpy(prev_actions_[k].at(ring_row, start), actions_[k].at(0, start), (stop - start) * actions_[k].row_bytes);
    }
    return find_bad(actions_, 0, start, stop);
  }

  // Clears the previous action of rows that are FIRST; returns the first value that is not finite.
  BadValue finish(int64_t ring_row, int64_t start, int64_t stop) const {
    const int32_t* types = reinterpret_cast<const int32_t*>(step_type_.at(ring_row, 0));
    for (int64_t i = start; i < stop; ++i) {
      if (types[i] != kFirst) continue;
      for (const Block& block : prev_actions_) std::memset(block.at(ring_row, i), 0, block.row_bytes);
    }
    return find_bad(checked_, ring_row, start, stop);
  }

 private:
  static BadValue find_bad(const std::vector<Block>& blocks, int64_t ring_row, int64_t start, int64_t stop) {
    for (size_t k = 0; k < blocks.size(); ++k) {
      const Block& block = blocks[k];
      if (!block.float_bytes || !block.row_bytes) continue;
      const int64_t per_row = block.row_bytes / block.float_bytes;
      const int64_t bad = first_non_finite(block.at(ring_row, start), (stop - start) * per_row, block.float_bytes);
      if (bad >= 0) return {static_cast<int64_t>(k), start + bad / per_row, bad % per_row};
    }
    return {-1, 0, 0};
  }

  Block step_type_;
  std::vector<Block> prev_actions_;
  std::vector<Block> actions_;
  std::vector<Block> checked_;
};

}  // namespace alf
