// Wake-up and completion between the main process and its workers: one 64-byte control line per worker in shared
// memory, counters instead of locks, a short spin and then a futex.
//
// The main process appends a command to the line's ring of slots and increments `go`; the worker runs commands in
// order and increments `done`. A ticket is the value of `go` after the post: the command has finished once `done`
// has reached it. Both counters wrap around, so they are compared by signed difference.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "../waiting.h"

namespace alf {

constexpr uint32_t kSlots = 8;  // commands a worker may have outstanding

struct alignas(64) ControlLine {
  std::atomic<uint32_t> go;               // commands posted
  std::atomic<uint32_t> done;             // commands finished
  std::atomic<uint32_t> worker_sleeping;  // the worker is in futex_wait on `go`
  std::atomic<uint32_t> main_sleeping;    // the main process is in futex_wait on `done`
  std::atomic<uint32_t> failed;           // commands that ended in an exception
  uint32_t reserved[3];
  uint32_t slots[kSlots];  // command `t` (counting from 0) is in slot t % kSlots
};
static_assert(sizeof(ControlLine) == 64, "a control line is one cache line");

// Spins for about twice the usual wait, and hardly at all where waits are long: then sleeping costs little beside
// the wait itself, and a core is left to others.
class AdaptiveSpin {
 public:
  explicit AdaptiveSpin(double limit_seconds) : limit_(limit_seconds), usual_(0.25 * limit_seconds) {}

  double budget() const { return 2 * usual_ < limit_ ? 2 * usual_ + 0.05 * limit_ : 0.05 * limit_; }
  void record(double waited) {
    // A pause of seconds (an update, an evaluation) is no reason to forget how quick steps are.
    double capped = waited < 2 * limit_ ? waited : 2 * limit_;
    usual_ += 0.1 * (capped - usual_);
  }
  bool enabled() const { return limit_ > 0; }

 private:
  double limit_;
  double usual_;
};

class Signals {
 public:
  // The lines are the caller's; they must outlive this object.
  Signals(void* lines, size_t num_workers, double spin_seconds)
      : lines_(static_cast<ControlLine*>(lines)), num_workers_(num_workers), spin_(spin_seconds) {}

  size_t num_workers() const { return num_workers_; }

  // --- main process ---

  // Appends `code` to the worker's commands, wakes it, and returns the ticket of the command.
  uint32_t post(size_t worker, uint32_t code) {
    ControlLine& line = at(worker);
    uint32_t go = line.go.load(std::memory_order_relaxed);
    if (go - line.done.load(std::memory_order_acquire) >= kSlots) {
      throw std::runtime_error("too many commands outstanding for one worker");
    }
    line.slots[go % kSlots] = code;
    // Sequentially consistent, as is the worker's store to `worker_sleeping`: one of the two sees the other.
    line.go.store(go + 1);
    if (line.worker_sleeping.load()) futex_wake(&line.go, 1);
    return go + 1;
  }

  bool is_done(size_t worker, uint32_t ticket) { return reached(at(worker).done.load(std::memory_order_acquire), ticket); }

  // Waits until `ticket` is done, for at most `seconds`; returns whether it is.
  bool wait(size_t worker, uint32_t ticket, double seconds) {
    ControlLine& line = at(worker);
    return wait_until(&line.done, &line.main_sleeping, [ticket](uint32_t done) { return reached(done, ticket); }, seconds);
  }

  // Whether counters have values that they cannot have: something else has written there.
  bool any_damaged() const {
    for (size_t worker = 0; worker < num_workers_; ++worker) {
      const ControlLine& line = lines_[worker];
      const uint32_t outstanding = line.go.load(std::memory_order_relaxed) - line.done.load(std::memory_order_relaxed);
      if (outstanding > kSlots || line.failed.load(std::memory_order_relaxed) > kSlots) return true;
    }
    return false;
  }

  // Whether a command has failed since the main process last set the counters back.
  bool any_failed() const {
    for (size_t worker = 0; worker < num_workers_; ++worker) {
      if (lines_[worker].failed.load(std::memory_order_relaxed)) return true;
    }
    return false;
  }

  // --- worker ---

  // Waits for the next command, for at most `seconds`; returns whether there is one, and its code in `code`.
  bool next(size_t worker, double seconds, uint32_t* code) {
    ControlLine& line = at(worker);
    uint32_t done = line.done.load(std::memory_order_relaxed);
    if (!wait_until(&line.go, &line.worker_sleeping, [done](uint32_t go) { return go != done; }, seconds)) return false;
    *code = line.slots[done % kSlots];
    return true;
  }

  // Reports the current command as finished and wakes the main process if it sleeps.
  void finish(size_t worker, bool failed) {
    ControlLine& line = at(worker);
    if (failed) line.failed.fetch_add(1, std::memory_order_relaxed);
    line.done.fetch_add(1);
    if (line.main_sleeping.load()) futex_wake(&line.done, 1);
  }

 private:
  static bool reached(uint32_t counter, uint32_t ticket) { return static_cast<int32_t>(counter - ticket) >= 0; }

  ControlLine& at(size_t worker) {
    if (worker >= num_workers_) throw std::out_of_range("no such worker");
    return lines_[worker];
  }

  template <typename Ready>
  bool wait_until(std::atomic<uint32_t>* word, std::atomic<uint32_t>* sleeping, Ready ready, double seconds) {
    if (ready(word->load(std::memory_order_acquire))) {
      return true;
    }
    const double start = now_seconds();
    if (spin_.enabled()) {
      const double spin_end = start + (spin_.budget() < seconds ? spin_.budget() : seconds);
      do {
        for (int i = 0; i < 32; ++i) {
          if (ready(word->load(std::memory_order_acquire))) {
            spin_.record(now_seconds() - start);
            return true;
          }
          relax();
        }
      } while (now_seconds() < spin_end);
    }
    bool is_ready = false;
    sleeping->store(1);
    for (;;) {
      uint32_t seen = word->load();
      is_ready = ready(seen);
      double left = start + seconds - now_seconds();
      if (is_ready || left <= 0) break;
      futex_wait(word, seen, left);
      // A signal handler of Python must get its turn: return early and let the caller decide.
      if (!ready(word->load()) && start + seconds - now_seconds() > 0) break;
    }
    sleeping->store(0);
    is_ready = is_ready || ready(word->load(std::memory_order_acquire));
    if (is_ready) spin_.record(now_seconds() - start);
    return is_ready;
  }

  ControlLine* lines_;
  size_t num_workers_;
  AdaptiveSpin spin_;
};

}  // namespace alf
