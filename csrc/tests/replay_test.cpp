// The trees, the priorities and the starts of sequences against naive loops, in one thread and in several side by side.
#include <cmath>
#include <map>
#include <numeric>
#include <thread>
#include <vector>

#include "../replay/sampling.h"
#include "../replay/segment_tree.h"
#include "check.h"

namespace {

template <alf::Op op>
double naive(const std::vector<double>& values) {
  double result = alf::SegmentTree<op>::identity();
  for (double value : values) {
    result = op == alf::Op::kSum ? result + value : op == alf::Op::kMin ? std::min(result, value)
                                                                       : std::max(result, value);
  }
  return result;
}

// Values that sums hold exactly: small integers.
template <alf::Op op>
void test_tree(int64_t capacity, int64_t num_rounds, uint64_t seed) {
  alf::Random random(seed);
  alf::SegmentTree<op> tree(capacity);
  std::vector<double> values(capacity, alf::SegmentTree<op>::identity());
  CHECK(tree.summary() == alf::SegmentTree<op>::identity());
  for (int64_t round = 0; round < num_rounds; ++round) {
    std::vector<int64_t> indices(1 + random.below(20));
    std::vector<double> written(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) {
      indices[i] = random.below(capacity);
      written[i] = static_cast<double>(random.below(9));
      values[indices[i]] = written[i];
    }
    tree.set(indices.data(), written.data(), static_cast<int64_t>(indices.size()));
    CHECK(tree.summary() == naive<op>(values));
    if constexpr (op == alf::Op::kSum) {
      if (!(tree.summary() > 0)) continue;
      std::vector<double> bounds = {0.0, tree.summary() / 2, tree.summary(), tree.summary() * random.unit()};
      std::vector<int64_t> found(bounds.size());
      tree.find(bounds.data(), static_cast<int64_t>(bounds.size()), found.data());
      for (size_t i = 0; i < bounds.size(); ++i) {
        double sum = 0;
        int64_t expected = -1;
        for (int64_t k = 0; k < capacity && (expected < 0 || sum <= bounds[i]); ++k) {
          sum += values[k];
          if (values[k] > 0) expected = k;
        }
        CHECK(found[i] == expected);
      }
    }
  }
}

// A ring of steps per environment that forgets; each step has a priority that is its number.
void test_priorities(int64_t num_rounds, uint64_t seed) {
  constexpr int64_t kEnvs = 3, kLength = 11, kInterval = 2, kSequence = 3;
  alf::Random random(seed);
  std::vector<double> storage(kEnvs * kLength);
  alf::Priorities priorities(storage.data(), kEnvs, kLength, kInterval);
  std::vector<int64_t> positions(kEnvs, 0), sizes(kEnvs, 0);
  std::map<std::pair<int64_t, int64_t>, double> expected;
  for (int64_t round = 0; round < num_rounds; ++round) {
    const int64_t env = random.below(kEnvs), num_steps = 1 + random.below(2 * kLength);
    positions[env] += num_steps;
    sizes[env] = std::min(sizes[env] + num_steps, kLength);
    priorities.fill(env, positions[env], num_steps, 2.0);
    for (int64_t p = positions[env] - num_steps; p < positions[env]; ++p) expected[{env, p}] = 2.0;
    const int64_t envs[1] = {env}, where[1] = {positions[env] - 1 - random.below(std::min<int64_t>(20, positions[env]))};
    const double value[1] = {static_cast<double>(random.below(5))};
    int64_t index = 0;
    priorities.synchronize(positions.data(), sizes.data(), kSequence, 0);
    CHECK(priorities.update(envs, where, value, 1, positions.data(), sizes.data(), &index) ==
          alf::Priorities::kNone);
    expected[{env, where[0]}] = value[0];
    priorities.synchronize(positions.data(), sizes.data(), kSequence, 0);

    double total = 0;
    for (int64_t e = 0; e < kEnvs; ++e) {
      const alf::StartRange range(positions[e], sizes[e], kSequence, 0, kInterval, 0);
      int64_t count = 0;
      for (int64_t p = positions[e] - sizes[e]; p + kSequence <= positions[e]; ++p) {
        if (p % kInterval != 0) continue;
        ++count;
        total += expected[{e, p}];
        CHECK(priorities.at(e, p) == (expected[{e, p}]));
      }
      CHECK(range.count == count);
    }
    CHECK(priorities.total() == total);
    if (total > 0) {
      const double bound = total * random.unit();
      int64_t found_env, found_position;
      double found_value;
      priorities.find(&bound, 1, &found_env, &found_position, &found_value);
      CHECK(found_value > 0 && (found_value == expected[{found_env, found_position}]));
      CHECK(found_position % kInterval == 0 && found_position + kSequence <= positions[found_env]);
    }
  }
  const int64_t env = 0, late = positions[0];
  const double bad = std::nan(""), good = 1.0;
  int64_t index = -1;
  CHECK(priorities.update(&env, &late, &bad, 1, positions.data(), sizes.data(), &index) == alf::Priorities::kValue);
  CHECK(priorities.update(&env, &late, &good, 1, positions.data(), sizes.data(), &index) == alf::Priorities::kPosition);
}

void test_repeated(int64_t num_rounds, uint64_t seed) {
  alf::Random random(seed);
  for (int64_t round = 0; round < num_rounds; ++round) {
    std::vector<int64_t> drawn(random.below(40));
    for (int64_t& number : drawn) number = random.below(30);
    std::vector<int64_t> expected;
    for (size_t i = 0; i < drawn.size(); ++i) {
      if (std::find(drawn.begin(), drawn.begin() + i, drawn[i]) != drawn.begin() + i) expected.push_back(i);
    }
    CHECK(alf::repeated(drawn.data(), static_cast<int64_t>(drawn.size())) == expected);
  }
}

void test_all(int64_t num_rounds, uint64_t seed) {
  for (int64_t capacity : {1, 2, 15, 16, 17, 256, 257, 1000}) {
    test_tree<alf::Op::kSum>(capacity, num_rounds, seed);
    test_tree<alf::Op::kMin>(capacity, num_rounds, seed);
    test_tree<alf::Op::kMax>(capacity, num_rounds, seed);
  }
  test_priorities(num_rounds, seed);
  test_repeated(num_rounds, seed);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t num_rounds = alf::rounds(argc, argv, 100);
  test_all(num_rounds, 0);
  // Objects of their own in several threads share nothing.
  std::vector<std::thread> threads;
  for (uint64_t seed = 1; seed < 4; ++seed) threads.emplace_back(test_all, num_rounds, seed);
  for (std::thread& thread : threads) thread.join();
  std::puts("replay: passed");
  return 0;
}
