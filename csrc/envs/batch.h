// A batch of one environment: episodes, time limits and resets row by row, written into a ring of time steps.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../replay/tensors.h"
#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

constexpr int32_t kFirst = 0, kMid = 1, kLast = 2;  // alf.data_structures.StepType

// Blocks [R, B, ...] of the time steps that are kept.
struct Ring {
  int64_t num_rows;
  int32_t* step_type;
  float* reward;
  float* discount;
  float* observation;
  void* prev_action;
};

// All that decides how the episodes go on, [B] or [B, ...].
struct BatchState {
  std::vector<double> state;          // of the physics
  std::vector<uint64_t> random;       // Pcg64 words
  std::vector<uint64_t> next_random;  // those that the next reset begins with, where there are any
  std::vector<int64_t> has_next_random;
  std::vector<int64_t> num_steps;  // of the episode
  std::vector<int64_t> step_type;  // of the latest time step
};

class Batch {
 public:
  virtual ~Batch() = default;
  // All rows begin a new episode. Steps return the row of the ring that was written.
  virtual int64_t reset() = 0;
  // False: `action` is not of the right shape and type, or not contiguous in main memory.
  virtual bool take_action(PyObject* action) = 0;
  virtual int64_t step() = 0;
  virtual bool is_discrete() const = 0;
  virtual int state_size() const = 0;
  virtual int observation_size() const = 0;

  void attach(const Ring& ring) {
    ring_ = ring;
    row_ = 0;
  }
  bool is_attached() const { return ring_.num_rows > 0; }
  // The next row, for a time step that somebody else writes.
  int64_t advance() { return row_ = (row_ + 1) % ring_.num_rows; }
  int64_t batch_size() const { return batch_size_; }
  BatchState& state() { return now_; }

 protected:
  Batch(int64_t batch_size, float discount, int64_t max_episode_steps)
      : batch_size_(batch_size), discount_(discount), max_episode_steps_(max_episode_steps) {}

  const int64_t batch_size_;
  const float discount_;
  const int64_t max_episode_steps_;  // 0: no limit
  Ring ring_{};
  int64_t row_ = 0;
  BatchState now_;
};

template <typename Env>
class BatchOf final : public Batch {
 public:
  using Action = typename Env::Action;
  static constexpr bool kIsDiscrete = std::is_integral_v<Action>;

  BatchOf(int64_t batch_size, float discount, int64_t max_episode_steps)
      : Batch(batch_size, discount, max_episode_steps) {
    now_.state.resize(batch_size * Env::kStateSize);
    now_.random.resize(batch_size * Pcg64::kNumWords);
    now_.next_random.resize(batch_size * Pcg64::kNumWords);
    now_.has_next_random.resize(batch_size);
    now_.num_steps.resize(batch_size);
    now_.step_type.resize(batch_size);
  }

  bool is_discrete() const override { return kIsDiscrete; }
  int state_size() const override { return Env::kStateSize; }
  int observation_size() const override { return Env::kObservationSize; }

  int64_t reset() override {
    const int64_t offset = advance() * batch_size_;
    for (int64_t i = 0; i < batch_size_; ++i) begin_episode(i, offset + i);
    return row_;
  }

  bool take_action(PyObject* object) override {
    DLTensor tensor;
    const bool is_tensor = Torch::get().view(object, &tensor);
    const DLDataType expected = kIsDiscrete ? kInt64 : kFloat32;
    if (!is_tensor || !(tensor.dtype == expected) || tensor.ndim != (kIsDiscrete ? 1 : 2) ||
        tensor.shape[0] != batch_size_ || (!kIsDiscrete && tensor.shape[1] != 1) || !is_contiguous(tensor)) {
      return false;
    }
    actions_ = static_cast<const Action*>(tensor.data);
    check_actions();
    return true;
  }

  int64_t step() override {
    const int64_t offset = advance() * batch_size_;
    for (int64_t i = 0; i < batch_size_; ++i) {
      if (now_.step_type[i] == kLast) {
        begin_episode(i, offset + i);
      } else {
        go_on(i, offset + i, actions_[i]);
      }
    }
    return row_;
  }

 private:
  static const NumpyMath& math() {
    static const NumpyMath* math = new NumpyMath();  // never destroyed: it holds Python objects
    return *math;
  }

  void check_actions() const {
    for (int64_t i = 0; i < batch_size_; ++i) {
      if constexpr (kIsDiscrete) {
        if (static_cast<uint64_t>(actions_[i]) < Env::kNumActions || now_.step_type[i] == kLast) continue;
        fail(i, "0 to " + std::to_string(Env::kNumActions - 1));
      } else {
        if (!std::isfinite(actions_[i])) fail(i, "a finite number");
      }
    }
  }

  [[noreturn]] void fail(int64_t i, const std::string& expected) const {
    throw std::invalid_argument("NativeBatchEnvironment.step: action of environment " + std::to_string(i) +
                                ": expected " + expected + ", got " + std::to_string(actions_[i]) + ".");
  }

  void begin_episode(int64_t i, int64_t at) {
    uint64_t* words = &now_.random[i * Pcg64::kNumWords];
    Pcg64 random;
    random.load(now_.has_next_random[i] ? &now_.next_random[i * Pcg64::kNumWords] : words);
    now_.has_next_random[i] = 0;
    Env::reset(math_, random, state_of(i));
    random.save(words);
    now_.num_steps[i] = 0;
    write(i, at, kFirst, 0.0f, 1.0f, Action(0));
  }

  void go_on(int64_t i, int64_t at, Action action) {
    Outcome outcome;
    const bool is_first = now_.num_steps[i] == 0;
    if constexpr (kIsDiscrete) {
      outcome = Env::step(math_, state_of(i), action, is_first);
    } else {
      // Clipped to [-1, 1], then mapped to the bounds of the environment; adding 0 makes -0 to 0.
      const float clipped = action < -1.0f ? -1.0f : action > 1.0f ? 1.0f : action;
      const float mapped = Env::kActionScale == 1.0f ? clipped : clipped * Env::kActionScale + 0.0f;
      outcome = Env::step(math_, state_of(i), mapped, is_first);
    }
    const bool is_last = ++now_.num_steps[i] == max_episode_steps_ || outcome.terminated;
    write(i, at, is_last ? kLast : kMid, static_cast<float>(outcome.reward), outcome.terminated ? 0.0f : discount_,
          action);
  }

  void write(int64_t i, int64_t at, int32_t step_type, float reward, float discount, Action action) {
    now_.step_type[i] = step_type;
    ring_.step_type[at] = step_type;
    ring_.reward[at] = reward;
    ring_.discount[at] = discount;
    static_cast<Action*>(ring_.prev_action)[at] = action;
    Env::observe(math_, state_of(i), step_type == kFirst, ring_.observation + at * Env::kObservationSize);
  }

  double* state_of(int64_t i) { return &now_.state[i * Env::kStateSize]; }

  const NumpyMath& math_ = math();
  const Action* actions_ = nullptr;  // of the step that is being made
};

}  // namespace alf
