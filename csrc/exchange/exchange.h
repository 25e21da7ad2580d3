// What processes of one machine that train together exchange: sums and copies, through memory that they share.
//
//   [ line of process 0 | line 1 | ... ][ result: capacity ][ slot of process 0: capacity ][ slot 1 ] ...
//
// To sum, each process writes its numbers into its slot; when all have, each adds up its share of all slots, in the
// order of the processes, into the result; when all have, each reads the result. So all get the same bits. The next
// sum may write slots at once, for nobody reads them any more, and the result when all have read it, which is when all
// have written their slots again.
#pragma once

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <unistd.h>

#include "../waiting.h"

namespace alf {

struct alignas(64) MemberLine {
  std::atomic<uint32_t> arrived;   // how often this process has arrived at a meeting; wraps around
  std::atomic<uint32_t> sleepers;  // processes in futex_wait on `arrived`
  std::atomic<int32_t> process;    // its number in the system, 0 before it has joined
};
static_assert(sizeof(MemberLine) == 64, "a line is one cache line");

class Exchange {
 public:
  static int64_t bytes(int64_t num_members, int64_t capacity) {
    return num_members * static_cast<int64_t>(sizeof(MemberLine)) + (num_members + 1) * capacity;
  }

  // The memory, zeroes at first, is the caller's; capacity is a multiple of 64. Spinning wants a core for each process.
  Exchange(void* memory, int64_t rank, int64_t num_members, int64_t capacity, double spin_seconds)
      : lines_(static_cast<MemberLine*>(memory)),
        result_(reinterpret_cast<char*>(lines_ + num_members)),
        rank_(rank),
        num_members_(num_members),
        capacity_(capacity),
        spin_seconds_(spin_seconds) {
    if (rank < 0 || rank >= num_members) throw std::out_of_range("no such rank");
    if (capacity <= 0 || capacity % 64 != 0) throw std::invalid_argument("capacity: expected a multiple of 64");
    met_ = lines_[rank].arrived.load();
    lines_[rank].process.store(static_cast<int32_t>(getpid()));
  }

  int64_t capacity() const { return capacity_; }
  int64_t num_members() const { return num_members_; }
  int32_t process_of(int64_t rank) const { return lines_[rank].process.load(); }

  // Says that this process has come to the next meeting, and wakes those that wait for it.
  void arrive() {
    ++met_;
    MemberLine& own = lines_[rank_];
    own.arrived.store(met_);
    if (own.sleepers.load() != 0) futex_wake(&own.arrived, INT_MAX);
  }

  // Waits for all others to come to this meeting; returns the first that has not within `seconds`, or -1.
  int64_t wait(double seconds) {
    const double end = now_seconds() + seconds;
    for (int64_t other = 0; other < num_members_; ++other) {
      if (other != rank_ && !wait_for(lines_[other], end)) return other;
    }
    return -1;
  }

  void put(const void* data, int64_t size) { std::memcpy(slot(rank_), data, size); }
  void put_result(const void* data, int64_t size) { std::memcpy(result_, data, size); }
  void take_result(void* data, int64_t size) const { std::memcpy(data, result_, size); }

  // Adds up this process's share of the first `count` numbers of all slots.
  template <typename T>
  void add_up(int64_t count) {
    // Whole cache lines, so that no two processes write the same one.
    constexpr int64_t kPerLine = 64 / sizeof(T);
    const int64_t num_lines = (count + kPerLine - 1) / kPerLine;
    const int64_t begin = num_lines * rank_ / num_members_ * kPerLine;
    const int64_t end = std::min(count, num_lines * (rank_ + 1) / num_members_ * kPerLine);
    if (begin >= end) return;
    T* sum = reinterpret_cast<T*>(result_);
    std::memcpy(sum + begin, reinterpret_cast<T*>(slot(0)) + begin, (end - begin) * sizeof(T));
    for (int64_t other = 1; other < num_members_; ++other) {
      const T* numbers = reinterpret_cast<const T*>(slot(other));
      for (int64_t i = begin; i < end; ++i) sum[i] += numbers[i];
    }
  }

 private:
  char* slot(int64_t rank) const { return result_ + (rank + 1) * capacity_; }

  // Another is at most one meeting ahead of this process.
  bool has_come(const MemberLine& other) const {
    return static_cast<int32_t>(other.arrived.load(std::memory_order_acquire) - met_) >= 0;
  }

  bool wait_for(MemberLine& other, double end) {
    if (has_come(other)) return true;
    const double spin_end = std::min(end, now_seconds() + spin_seconds_);
    while (now_seconds() < spin_end) {
      for (int i = 0; i < 32; ++i) {
        if (has_come(other)) return true;
        relax();
      }
    }
    other.sleepers.fetch_add(1);
    bool came = false;
    for (;;) {
      const uint32_t seen = other.arrived.load();
      came = has_come(other);
      const double left = end - now_seconds();
      if (came || left <= 0) break;
      futex_wait(&other.arrived, seen, left);
    }
    other.sleepers.fetch_sub(1);
    return came;
  }

  MemberLine* lines_;
  char* result_;
  int64_t rank_;
  int64_t num_members_;
  int64_t capacity_;
  double spin_seconds_;
  uint32_t met_;  // meetings this process has arrived at
};

}  // namespace alf
