// Pendulum, as gymnasium/envs/classic_control/pendulum.py computes it.
#pragma once

#include <cmath>

#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

struct Pendulum {
  using Action = float;
  static constexpr float kActionScale = 2.0f;
  static constexpr int kStateSize = 3;  // theta, theta_dot, sin(theta)
  static constexpr int kObservationSize = 3;

  static void reset(const NumpyMath& math, Pcg64& random, double* state) {
    state[0] = random.uniform(-kPi, kPi);
    state[1] = random.uniform(-1.0, 1.0);
    state[2] = math.sin(state[0]);
  }

  static Outcome step(const NumpyMath& math, double* state, float torque, bool /*is_first*/) {
    const double dt = 0.05, theta = state[0], theta_dot = state[1];
    // What depends on the torque alone is float32.
    const double effort = 0.001f * squared_by_pow(torque), push = 3.0f * torque;
    const double cost = squared_by_pow(normalized(theta)) + 0.1 * squared_by_pow(theta_dot) + effort;
    const double new_theta_dot = clip(theta_dot + (15.0 * state[2] + push) * dt, -8.0, 8.0);
    state[0] = theta + new_theta_dot * dt;
    state[1] = new_theta_dot;
    state[2] = math.sin(state[0]);
    return {-cost, false};
  }

  static void observe(const NumpyMath& math, const double* state, bool /*is_first*/, float* observation) {
    observation[0] = static_cast<float>(math.cos(state[0]));
    observation[1] = static_cast<float>(state[2]);
    observation[2] = static_cast<float>(state[1]);
  }

 private:
  // ((x + pi) % (2 * pi)) - pi with the remainder of Python, which has the sign of the divisor.
  static double normalized(double x) {
    double rest = std::fmod(x + kPi, 2 * kPi);
    if (rest < 0) rest += 2 * kPi;
    return rest - kPi;
  }
};

}  // namespace alf
