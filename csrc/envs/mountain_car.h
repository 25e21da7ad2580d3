// MountainCar, as gymnasium/envs/classic_control/mountain_car.py computes it.
#pragma once

#include <cmath>
#include <cstdint>

#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

struct MountainCar {
  using Action = int64_t;
  static constexpr int kNumActions = 3;
  static constexpr int kStateSize = 2;  // position, velocity
  static constexpr int kObservationSize = 2;

  static void reset(const NumpyMath&, Pcg64& random, double* state) {
    state[0] = random.uniform(-0.6, -0.4);
    state[1] = 0.0;
  }

  static Outcome step(const NumpyMath&, double* state, int64_t action, bool /*is_first*/) {
    double position = state[0], velocity = state[1];
    velocity += static_cast<double>(action - 1) * 0.001 + std::cos(3 * position) * (-0.0025);
    velocity = clip(velocity, -0.07, 0.07);
    position += velocity;
    position = clip(position, -1.2, 0.6);
    if (position == -1.2 && velocity < 0) velocity = 0.0;
    state[0] = position;
    state[1] = velocity;
    return {-1.0, position >= 0.5 && velocity >= 0.0};
  }

  static void observe(const NumpyMath&, const double* state, bool /*is_first*/, float* observation) {
    for (int i = 0; i < kStateSize; ++i) observation[i] = static_cast<float>(state[i]);
  }
};

}  // namespace alf
