// Acrobot, as gymnasium/envs/classic_control/acrobot.py computes it (its "book" dynamics, no noise).
#pragma once

#include <cstdint>

#include "numpy_math.h"
#include "outcome.h"
#include "pcg64.h"

namespace alf {

struct Acrobot {
  using Action = int64_t;
  static constexpr int kNumActions = 3;
  static constexpr int kStateSize = 4;  // theta1, theta2, and their velocities
  static constexpr int kObservationSize = 6;

  static void reset(const NumpyMath&, Pcg64& random, double* state) {
    for (int i = 0; i < kStateSize; ++i) state[i] = static_cast<float>(random.uniform(-0.1, 0.1));
  }

  static Outcome step(const NumpyMath& math, double* state, int64_t action, bool /*is_first*/) {
    const double torque = static_cast<double>(action - 1), dt = 0.2, half = dt / 2.0;
    double k1[4], k2[4], k3[4], k4[4], between[4];
    derivative(math, state, torque, k1);
    for (int i = 0; i < 4; ++i) between[i] = state[i] + half * k1[i];
    derivative(math, between, torque, k2);
    for (int i = 0; i < 4; ++i) between[i] = state[i] + half * k2[i];
    derivative(math, between, torque, k3);
    for (int i = 0; i < 4; ++i) between[i] = state[i] + dt * k3[i];
    derivative(math, between, torque, k4);
    for (int i = 0; i < 4; ++i) state[i] = state[i] + dt / 6.0 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
    state[0] = wrapped(state[0]);
    state[1] = wrapped(state[1]);
    state[2] = clip(state[2], -4 * kPi, 4 * kPi);
    state[3] = clip(state[3], -9 * kPi, 9 * kPi);
    const bool terminated = -math.cos(state[0]) - math.cos(state[1] + state[0]) > 1.0;
    return {terminated ? 0.0 : -1.0, terminated};
  }

  // The state of a reset is float32 there, and so are its sines.
  static void observe(const NumpyMath& math, const double* state, bool is_first, float* observation) {
    for (int i = 0; i < 2; ++i) {
      const double angle = state[i];
      const float narrow = static_cast<float>(angle);
      observation[2 * i] = is_first ? math.cos_float32(narrow) : static_cast<float>(math.cos(angle));
      observation[2 * i + 1] = is_first ? math.sin_float32(narrow) : static_cast<float>(math.sin(angle));
      observation[4 + i] = static_cast<float>(state[2 + i]);
    }
  }

 private:
  static void derivative(const NumpyMath& math, const double* state, double torque, double* rate) {
    const double g = 9.8, theta1 = state[0], theta2 = state[1], dtheta1 = state[2], dtheta2 = state[3];
    // Masses, lengths and moments of inertia are 1, centers of mass at 0.5.
    const double cos2 = math.cos(theta2), sin2 = math.sin(theta2);
    const double d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0;
    const double d2 = (0.25 + 0.5 * cos2) + 1.0;
    const double phi2 = 0.5 * g * math.cos(theta1 + theta2 - kPi / 2.0);
    const double phi1 = -0.5 * squared_by_pow(dtheta2) * sin2 - dtheta2 * dtheta1 * sin2 +
                        1.5 * g * math.cos(theta1 - kPi / 2) + phi2;
    const double ddtheta2 = (torque + d2 / d1 * phi1 - 0.5 * squared_by_pow(dtheta1) * sin2 - phi2) /
                            (0.25 + 1.0 - squared_by_pow(d2) / d1);
    rate[0] = dtheta1;
    rate[1] = dtheta2;
    rate[2] = -(d2 * ddtheta2 + phi1) / d1;
    rate[3] = ddtheta2;
  }

  static double wrapped(double angle) {
    const double turn = kPi - -kPi;
    while (angle > kPi) angle = angle - turn;
    while (angle < -kPi) angle = angle + turn;
    return angle;
  }
};

}  // namespace alf
