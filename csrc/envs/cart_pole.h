// CartPole, as gymnasium/envs/classic_control/cartpole.py computes it.
#pragma once

#include <cstdint>

#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

struct CartPole {
  using Action = int64_t;
  static constexpr int kNumActions = 2;
  static constexpr int kStateSize = 4;  // x, x_dot, theta, theta_dot
  static constexpr int kObservationSize = 4;

  static void reset(const NumpyMath&, Pcg64& random, double* state) {
    for (int i = 0; i < kStateSize; ++i) state[i] = random.uniform(-0.05, 0.05);
  }

  static Outcome step(const NumpyMath& math, double* state, int64_t action, bool /*is_first*/) {
    const double gravity = 9.8, pole_mass = 0.1, total_mass = 0.1 + 1.0, half_length = 0.5, tau = 0.02;
    const double pole_mass_length = pole_mass * half_length;
    double x = state[0], x_dot = state[1], theta = state[2], theta_dot = state[3];
    const double force = action == 1 ? 10.0 : -10.0;
    const double cosine = math.cos(theta), sine = math.sin(theta);
    const double temp = (force + pole_mass_length * (theta_dot * theta_dot) * sine) / total_mass;
    const double theta_acc = (gravity * sine - cosine * temp) /
                             (half_length * (4.0 / 3.0 - pole_mass * (cosine * cosine) / total_mass));
    const double x_acc = temp - pole_mass_length * theta_acc * cosine / total_mass;
    x = x + tau * x_dot;
    x_dot = x_dot + tau * x_acc;
    theta = theta + tau * theta_dot;
    theta_dot = theta_dot + tau * theta_acc;
    state[0] = x;
    state[1] = x_dot;
    state[2] = theta;
    state[3] = theta_dot;
    const double x_limit = 2.4, theta_limit = 12 * 2 * kPi / 360;
    return {1.0, x < -x_limit || x > x_limit || theta < -theta_limit || theta > theta_limit};
  }

  static void observe(const NumpyMath&, const double* state, bool /*is_first*/, float* observation) {
    for (int i = 0; i < kStateSize; ++i) observation[i] = static_cast<float>(state[i]);
  }
};

}  // namespace alf
