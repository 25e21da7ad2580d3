// MountainCarContinuous, as gymnasium/envs/classic_control/continuous_mountain_car.py computes it.
#pragma once

#include <cmath>

#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

struct ContinuousMountainCar {
  using Action = float;
  static constexpr float kActionScale = 1.0f;
  static constexpr int kStateSize = 2;  // position, velocity
  static constexpr int kObservationSize = 2;

  static void reset(const NumpyMath&, Pcg64& random, double* state) {
    state[0] = random.uniform(-0.6, -0.4);
    state[1] = 0.0;
  }

  // The state of a reset is float64, that of a step is float32, and the next step computes in whatever it finds.
  static Outcome step(const NumpyMath&, double* state, float action, bool is_first) {
    return is_first ? step_in<double>(state, action) : step_in<float>(state, action);
  }

  static void observe(const NumpyMath&, const double* state, bool /*is_first*/, float* observation) {
    for (int i = 0; i < kStateSize; ++i) observation[i] = static_cast<float>(state[i]);
  }

 private:
  template <typename Real>
  static Outcome step_in(double* state, float action) {
    const Real max_speed = static_cast<Real>(0.07), low = static_cast<Real>(-1.2), high = static_cast<Real>(0.6);
    const Real goal = static_cast<Real>(0.45);
    Real position = static_cast<Real>(state[0]), velocity = static_cast<Real>(state[1]);
    const double slope = 0.0025 * std::cos(static_cast<double>(static_cast<Real>(3) * position));
    velocity += static_cast<Real>(action * 0.0015f - static_cast<float>(slope));
    if (velocity > max_speed) velocity = max_speed;
    if (velocity < -max_speed) velocity = -max_speed;
    position += velocity;
    if (position > high) position = high;
    if (position < low) position = low;
    if (position == low && velocity < 0) velocity = 0;
    const bool terminated = position >= goal && velocity >= 0;
    double reward = terminated ? 100.0 : 0.0;
    reward -= squared_by_pow(static_cast<double>(action)) * 0.1;
    state[0] = static_cast<float>(position);
    state[1] = static_cast<float>(velocity);
    return {reward, terminated};
  }
};

}  // namespace alf
