// SegmentTree: the sum, minimum or maximum of float64 values that change, and the search in sums.
//
// Sixteen children a node: a million leaves are five levels, each step down is one or two cache lines, and a node is
// always computed anew from its children, so that no rounding error accumulates.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "large_pages.h"

namespace alf {

constexpr int64_t kFanOut = 16;

enum class Op { kSum, kMin, kMax };

template <Op op>
class SegmentTree {
 public:
  static constexpr double identity() {
    return op == Op::kSum ? 0.0
           : op == Op::kMin ? std::numeric_limits<double>::infinity()
                            : -std::numeric_limits<double>::infinity();
  }

  explicit SegmentTree(int64_t capacity) : capacity_(capacity) {
    int64_t size = capacity;
    do {
      size = (size + kFanOut - 1) / kFanOut;
      levels_.emplace_back(size * kFanOut, identity());
    } while (size > 1);
    stamps_.resize(levels_.size());
    for (size_t level = 1; level < levels_.size(); ++level) stamps_[level].assign(levels_[level].size(), 0);
  }

  int64_t capacity() const { return capacity_; }
  const double* leaves() const { return levels_[0].data(); }
  double at(int64_t index) const { return levels_[0][index]; }

  // The last one of several values for one index holds.
  void set(const int64_t* indices, const double* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (i + kAhead < count) prefetch(&levels_[0][indices[i + kAhead] / kFanOut * kFanOut]);
      levels_[0][indices[i]] = values[i];
    }
    ++generation_;
    int64_t width = kFanOut;
    for (size_t level = 1; level < levels_.size(); ++level, width *= kFanOut) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t node = indices[i] / width;
        if (stamps_[level][node] == generation_) continue;
        stamps_[level][node] = generation_;
        levels_[level][node] = reduce(&levels_[level - 1][node * kFanOut]);
      }
    }
  }

  double summary() const { return reduce(levels_.back().data()); }

  // For each bound the first index at which the running sum exceeds it, among those with a value other than 0; the last
  // of them if rounding lets none. Only for sums that are positive, of values that are not negative.
  //
  // All bounds go down a level together: their cache misses overlap.
  void find(const double* bounds, int64_t count, int64_t* found) const {
    std::vector<double> left(bounds, bounds + count);
    std::fill(found, found + count, 0);
    for (size_t level = levels_.size(); level-- > 0;) {
      const int64_t last = (level > 0 ? static_cast<int64_t>(levels_[level - 1].size()) / kFanOut : capacity_) - 1;
      for (int64_t i = 0; i < count; ++i) {
        if (i + kAhead < count) prefetch(&levels_[level][found[i + kAhead] * kFanOut]);
        const double* children = &levels_[level][found[i] * kFanOut];
        double sums[kFanOut + 1];
        sums[0] = 0;
        for (int64_t k = 0; k < kFanOut; ++k) sums[k + 1] = sums[k] + children[k];
        int64_t chosen = 0;
        for (int64_t k = 1; k <= kFanOut; ++k) chosen += sums[k] <= left[i];
        if (chosen == kFanOut) {
          while (--chosen > 0 && !(children[chosen] > 0)) {
          }
        }
        left[i] -= sums[chosen];
        // Only values that are negative or NaN lead beyond the last one.
        found[i] = std::min(found[i] * kFanOut + chosen, last);
      }
    }
  }

 private:
  static constexpr int64_t kAhead = 8;  // nodes to be fetched while one is worked on

  // The two cache lines of the children of a node.
  static void prefetch(const double* children) {
    __builtin_prefetch(children);
    __builtin_prefetch(children + kFanOut / 2);
  }

  static double combine(double a, double b) {
    return op == Op::kSum ? a + b : op == Op::kMin ? (b < a ? b : a) : (b > a ? b : a);
  }

  // By halves, in an order that vector units and the Python twin follow too.
  static double reduce(const double* children) {
    double parts[kFanOut / 2];
    for (int64_t i = 0; i < kFanOut / 2; ++i) parts[i] = combine(children[i], children[i + kFanOut / 2]);
    for (int64_t half = kFanOut / 4; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) parts[i] = combine(parts[i], parts[i + half]);
    }
    return parts[0];
  }

  int64_t capacity_;
  std::vector<std::vector<double, LargePages<double>>> levels_;  // [0] are the values; each is padded to whole nodes with the identity
  std::vector<std::vector<uint64_t>> stamps_;  // which nodes the present set() has computed
  uint64_t generation_ = 0;
};

}  // namespace alf
