// Sums and copies among threads in the place of processes, in random sizes, with and without spinning.
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "../exchange/exchange.h"
#include "check.h"

namespace {

void meet(alf::Exchange* exchange) {
  exchange->arrive();
  CHECK(exchange->wait(60.0) == -1);
}

// Numbers are small integers, so that sums are exact whatever the order.
template <typename T>
void sum_and_copy(alf::Exchange* exchange, int64_t rank, int64_t num_members, int64_t num_rounds, uint64_t seed) {
  alf::Random random(seed);  // the same in all threads
  for (int64_t round = 0; round < num_rounds; ++round) {
    const int64_t count = 1 + random.below(exchange->capacity() / static_cast<int64_t>(sizeof(T)));
    const int64_t offset = random.below(100);
    std::vector<T> data(count);
    for (int64_t i = 0; i < count; ++i) data[i] = static_cast<T>(rank * i + offset);
    exchange->put(data.data(), count * sizeof(T));
    meet(exchange);
    exchange->add_up<T>(count);
    meet(exchange);
    exchange->take_result(data.data(), count * sizeof(T));
    const int64_t ranks = num_members * (num_members - 1) / 2;
    for (int64_t i = 0; i < count; ++i) CHECK(data[i] == static_cast<T>(ranks * i + num_members * offset));

    const int64_t root = random.below(num_members);
    meet(exchange);
    if (rank == root) exchange->put_result(&offset, sizeof offset);
    meet(exchange);
    int64_t copied = -1;
    exchange->take_result(&copied, sizeof copied);
    CHECK(copied == offset);
  }
}

void test(int64_t num_members, int64_t capacity, double spin_seconds, int64_t num_rounds, uint64_t seed) {
  const int64_t bytes = alf::Exchange::bytes(num_members, capacity);
  void* memory = std::aligned_alloc(64, bytes);
  std::memset(memory, 0, bytes);
  // Counters wrap around on the way.
  for (int64_t rank = 0; rank < num_members; ++rank) {
    static_cast<alf::MemberLine*>(memory)[rank].arrived.store(0xFFFFFFF0u);
  }
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < num_members; ++rank) {
    threads.emplace_back([=] {
      alf::Exchange exchange(memory, rank, num_members, capacity, spin_seconds);
      sum_and_copy<float>(&exchange, rank, num_members, num_rounds, seed);
      sum_and_copy<double>(&exchange, rank, num_members, num_rounds, seed + 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::free(memory);
}

void test_who_is_missing() {
  const int64_t bytes = alf::Exchange::bytes(2, 64);
  void* memory = std::aligned_alloc(64, bytes);
  std::memset(memory, 0, bytes);
  alf::Exchange first(memory, 0, 2, 64, 0.0), second(memory, 1, 2, 64, 0.0);
  first.arrive();
  CHECK(first.wait(0.01) == 1);
  second.arrive();
  CHECK(first.wait(0.01) == -1);
  CHECK(second.wait(0.01) == -1);
  std::free(memory);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t num_rounds = alf::rounds(argc, argv, 40);
  test_who_is_missing();
  uint64_t seed = 1;
  for (int64_t num_members : {1, 2, 3, 5}) {
    for (int64_t capacity : {64, 4096}) {
      for (double spin_seconds : {0.0, 1e-4}) test(num_members, capacity, spin_seconds, num_rounds, seed++);
    }
  }
  std::puts("exchange: as expected");
  return 0;
}
