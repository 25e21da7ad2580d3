// Which steps are starts of sequences, and how some of them are drawn.
#pragma once

#include <string>
#include <vector>

#include "segment_tree.h"

namespace alf {

inline int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// The starts of sequences of `length` steps in one environment that holds the `size` steps before `position`: the
// multiples of `interval` in [first, end), without the first `ignored` steps; of these the last `recent` ones if > 0.
struct StartRange {
  StartRange(int64_t position, int64_t size, int64_t length, int64_t ignored, int64_t interval, int64_t recent)
      : end(position - length + 1) {
    first = ceil_div(position - size + ignored, interval) * interval;
    count = end > first ? (end - first + interval - 1) / interval : 0;
    if (recent > 0 && count > recent) {
      first += (count - recent) * interval;
      count = recent;
    }
  }
  int64_t first, end, count;
};

// The places in `drawn` of numbers (>= 0) that stand there before.
inline std::vector<int64_t> repeated(const int64_t* drawn, int64_t count) {
  std::vector<int64_t> places;
  size_t size = 16;
  while (size < static_cast<size_t>(count) * 2) size *= 2;
  static thread_local std::vector<int64_t> table;
  table.assign(size, -1);
  for (int64_t i = 0; i < count; ++i) {
    size_t slot = (static_cast<uint64_t>(drawn[i]) * 0x9E3779B97F4A7C15ull >> 32) & (size - 1);
    while (table[slot] != -1 && table[slot] != drawn[i]) slot = (slot + 1) & (size - 1);
    if (table[slot] == drawn[i]) {
      places.push_back(i);
    } else {
      table[slot] = drawn[i];
    }
  }
  return places;
}

// The priorities of steps and a sum-tree of those that are starts. A step enters the tree when enough steps follow it
// and leaves it when it is overwritten; both happen at the next sampling, for all steps since the last one together.
class Priorities {
 public:
  // priorities: [num_environments * max_length], kept by the caller.
  Priorities(double* priorities, int64_t num_environments, int64_t max_length, int64_t interval)
      : num_environments_(num_environments), max_length_(max_length), interval_(interval),
        tree_(num_environments * max_length), priorities_(priorities), first_(num_environments, 0),
        end_(num_environments, 0) {
    use_large_pages(priorities, num_environments * max_length * sizeof(double));
  }

  // The priority of the latest `num_steps` steps of an environment; these are not in the tree yet.
  void fill(int64_t env, int64_t position, int64_t num_steps, double value) {
    for (int64_t p = position - std::min(num_steps, max_length_); p < position; ++p) {
      priorities_[index_of(env, p)] = value;
    }
  }

  enum Problem : int64_t { kNone, kValue, kPosition };

  // Priorities of the steps at positions; those before the earliest stored one are left alone. *index is that of the
  // first one with a problem: a value that is negative, NaN or infinite, or a position that is not stored yet; then
  // nothing is done.
  Problem update(const int64_t* envs, const int64_t* positions, const double* values, int64_t count,
                 const int64_t* current, const int64_t* sizes, int64_t* index) {
    indices_.clear();
    values_.clear();
    for (*index = 0; *index < count; ++*index) {
      if (!(values[*index] >= 0 && values[*index] < std::numeric_limits<double>::infinity())) return kValue;
    }
    for (*index = 0; *index < count; ++*index) {
      if (positions[*index] >= current[envs[*index]]) return kPosition;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t env = envs[i], position = positions[i];
      if (position < current[env] - sizes[env]) continue;
      const int64_t index = index_of(env, position);
      priorities_[index] = values[i];
      if (position >= first_[env] && position < end_[env] && position % interval_ == 0) add(index, values[i]);
    }
    flush();
    return kNone;
  }

  // Makes the tree hold the starts in [first, end) of each environment.
  void synchronize(const int64_t* current, const int64_t* sizes, int64_t length, int64_t ignored) {
    indices_.clear();
    values_.clear();
    for (int64_t env = 0; env < num_environments_; ++env) {
      const StartRange range(current[env], sizes[env], length, ignored, interval_, 0);
      const int64_t first = range.first, end = std::max(range.first, range.end);
      const int64_t old_first = first_[env], old_end = end_[env];
      for_starts(old_first, std::min(old_end, first), [&](int64_t p) { add(index_of(env, p), 0.0); });
      for_starts(std::max(old_first, end), old_end, [&](int64_t p) { add(index_of(env, p), 0.0); });
      auto enter = [&](int64_t p) { add(index_of(env, p), priorities_[index_of(env, p)]); };
      for_starts(first, std::min(end, old_first), enter);
      for_starts(std::max(first, old_end), end, enter);
      first_[env] = first;
      end_[env] = end;
    }
    flush();
  }

  double total() const { return tree_.summary(); }
  double at(int64_t env, int64_t position) const { return tree_.at(index_of(env, position)); }

  // One step for each bound in [0, total).
  void find(const double* bounds, int64_t count, int64_t* envs, int64_t* positions, double* values) const {
    tree_.find(bounds, count, positions);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t index = positions[i];
      const int64_t env = index / max_length_, slot = index % max_length_;
      const int64_t past = (slot - first_[env]) % max_length_;
      envs[i] = env;
      positions[i] = first_[env] + (past < 0 ? past + max_length_ : past);
      values[i] = tree_.at(index);
    }
  }

 private:
  int64_t index_of(int64_t env, int64_t position) const { return env * max_length_ + position % max_length_; }

  void add(int64_t index, double value) {
    indices_.push_back(index);
    values_.push_back(value);
  }

  void flush() { tree_.set(indices_.data(), values_.data(), static_cast<int64_t>(indices_.size())); }

  template <typename F>
  void for_starts(int64_t first, int64_t end, F&& f) const {
    for (int64_t p = ceil_div(first, interval_) * interval_; p < end; p += interval_) f(p);
  }

  int64_t num_environments_, max_length_, interval_;
  SegmentTree<Op::kSum> tree_;
  double* priorities_;
  std::vector<int64_t> first_, end_;  // of the steps in the tree
  std::vector<int64_t> indices_;
  std::vector<double> values_;
};

}  // namespace alf
