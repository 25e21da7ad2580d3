// The protocol of the pool, with threads in the place of processes: ThreadSanitizer does not see what two processes do
// to memory that they share, and two threads run the same code over the same control lines and rows.
//
// The main thread writes actions and posts the ring row; each worker takes over its rows' actions, writes the rows and
// reports; the main thread then reads them. Nothing but the control lines orders these accesses.
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "../parallel_env/row_keeper.h"
#include "../parallel_env/signals.h"
#include "check.h"

namespace {

using alf::Block;

constexpr uint32_t kClose = 1000;  // a command that is no ring row
constexpr uint32_t kFail = 1001;
constexpr int64_t kWorkers = 3, kRowsOfWorker = 5, kBatch = kWorkers * kRowsOfWorker, kRing = 4, kSize = 7;
constexpr int32_t kMid = 1;

// The blocks that the processes would share.
struct Shared {
  std::vector<alf::ControlLine> lines{kWorkers};
  std::vector<int32_t> step_type = std::vector<int32_t>(kRing * kBatch);
  std::vector<float> observation = std::vector<float>(kRing * kBatch * kSize);
  std::vector<double> action = std::vector<double>(kBatch), prev_action = std::vector<double>(kRing * kBatch);

  template <typename T>
  static Block block(std::vector<T>& data, bool has_ring, int64_t size, bool is_float) {
    const int64_t row_bytes = size * static_cast<int64_t>(sizeof(T));
    return {reinterpret_cast<char*>(data.data()), has_ring ? kBatch * row_bytes : 0, row_bytes,
            is_float ? static_cast<int64_t>(sizeof(T)) : 0};
  }

  // Each process has its own.
  alf::RowKeeper keeper() {
    return alf::RowKeeper(block(step_type, true, 1, false), {block(prev_action, true, 1, true)},
                          {block(action, false, 1, true)}, {block(observation, true, kSize, true)});
  }
};

bool is_first(double action) { return static_cast<int64_t>(action) % 5 == 0; }

void work(Shared* shared, size_t worker, double spin_seconds) {
  alf::Signals signals(shared->lines.data(), kWorkers, spin_seconds);
  const alf::RowKeeper keeper = shared->keeper();
  const int64_t start = static_cast<int64_t>(worker) * kRowsOfWorker, stop = start + kRowsOfWorker;
  for (;;) {
    uint32_t code = 0;
    if (!signals.next(worker, 60, &code)) continue;
    if (code < kRing) {
      CHECK(keeper.begin(code, start, stop).block < 0);
      for (int64_t row = start; row < stop; ++row) {
        const int64_t at = code * kBatch + row;
        CHECK(shared->step_type[at] == alf::kUnwritten && shared->prev_action[at] == shared->action[row]);
        for (int64_t i = 0; i < kSize; ++i) {
          shared->observation[at * kSize + i] = static_cast<float>(shared->action[row]) + static_cast<float>(i);
        }
        shared->step_type[at] = is_first(shared->action[row]) ? alf::kFirst : kMid;
      }
      CHECK(keeper.finish(code, start, stop).block < 0);
    }
    signals.finish(worker, code == kFail);
    if (code == kClose) return;
  }
}

void wait(alf::Signals& signals, size_t worker, uint32_t ticket) {
  // One sleep: a wake-up that is lost is not made up for by a timeout.
  const double start = alf::now_seconds();
  while (!signals.wait(worker, ticket, 60)) CHECK(alf::now_seconds() - start < 60);
}

void check_rows(const Shared& shared, int64_t ring_row, double number) {
  for (int64_t row = 0; row < kBatch; ++row) {
    const int64_t at = ring_row * kBatch + row;
    const double action = number + static_cast<double>(row);
    CHECK(shared.step_type[at] == (is_first(action) ? alf::kFirst : kMid));
    CHECK(shared.prev_action[at] == (is_first(action) ? 0.0 : action));
    CHECK(shared.observation[at * kSize + kSize - 1] == static_cast<float>(action) + kSize - 1);
  }
}

void write_actions(Shared& shared, double number) {
  for (int64_t row = 0; row < kBatch; ++row) shared.action[row] = number + static_cast<double>(row);
}

// Steps of the whole batch; now and then the main thread is slow, so that workers sleep.
void test_steps(int64_t num_steps, double main_spin, double worker_spin) {
  Shared shared;
  for (alf::ControlLine& line : shared.lines) line.go = line.done = 0u - 50;  // the counters wrap around on the way
  alf::Signals signals(shared.lines.data(), kWorkers, main_spin);
  std::vector<std::thread> workers;
  for (size_t worker = 0; worker < kWorkers; ++worker) workers.emplace_back(work, &shared, worker, worker_spin);
  for (int64_t step = 0; step < num_steps; ++step) {
    const double number = static_cast<double>(1 + step % 1000);
    write_actions(shared, number);
    uint32_t tickets[kWorkers];
    for (size_t worker = 0; worker < kWorkers; ++worker) {
      tickets[worker] = signals.post(worker, static_cast<uint32_t>(step % kRing));
    }
    if (step % 97 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (size_t worker = 0; worker < kWorkers; ++worker) wait(signals, worker, tickets[worker]);
    check_rows(shared, step % kRing, number);
  }
  CHECK(!signals.any_failed());
  const uint32_t ticket = signals.post(1, kFail);
  wait(signals, 1, ticket);
  CHECK(signals.any_failed());
  for (size_t worker = 0; worker < kWorkers; ++worker) wait(signals, worker, signals.post(worker, kClose));
  for (std::thread& worker : workers) worker.join();
}

// As many commands as fit are outstanding, each worker at its own pace.
void test_queued_commands(int64_t num_rounds, double spin) {
  Shared shared;
  alf::Signals signals(shared.lines.data(), kWorkers, spin);
  std::vector<std::thread> workers;
  for (size_t worker = 0; worker < kWorkers; ++worker) workers.emplace_back(work, &shared, worker, spin);
  for (int64_t round = 0; round < num_rounds; ++round) {
    write_actions(shared, static_cast<double>(round % 1000));
    uint32_t last[kWorkers] = {};
    for (uint32_t i = 0; i < alf::kSlots; ++i) {
      for (size_t worker = 0; worker < kWorkers; ++worker) last[worker] = signals.post(worker, i % kRing);
    }
    for (size_t worker = kWorkers; worker-- > 0;) wait(signals, worker, last[worker]);
    for (int64_t row = 0; row < kRing; ++row) check_rows(shared, row, static_cast<double>(round % 1000));
  }
  for (size_t worker = 0; worker < kWorkers; ++worker) wait(signals, worker, signals.post(worker, kClose));
  for (std::thread& worker : workers) worker.join();
}

// A bad number is found wherever it is, in each type of floating point number.
template <typename T>
void test_search(T bad) {
  for (int64_t count = 1; count < 600; count += 37) {
    for (int64_t place = 0; place < count; place += 11) {
      std::vector<T> numbers(count, static_cast<T>(1));
      CHECK(alf::first_non_finite(numbers.data(), count, sizeof(T)) == -1);
      numbers[place] = bad;
      CHECK(alf::first_non_finite(numbers.data(), count, sizeof(T)) == place);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t num_steps = alf::rounds(argc, argv, 400);
  test_steps(num_steps, 0.0, 0.0);
  test_steps(num_steps, 100e-6, 0.0);
  test_steps(num_steps, 100e-6, 100e-6);
  test_queued_commands(num_steps, 0.0);
  test_queued_commands(num_steps, 50e-6);
  test_search(std::numeric_limits<float>::quiet_NaN());
  test_search(-std::numeric_limits<float>::infinity());
  test_search(std::numeric_limits<double>::quiet_NaN());
  test_search(std::numeric_limits<double>::infinity());
  test_search<uint16_t>(0x7C00);  // infinity of float16
  std::puts("pool protocol: passed");
  return 0;
}
