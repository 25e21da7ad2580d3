// What a step of an environment says beside its new state.
#pragma once

namespace alf {

struct Outcome {
  double reward;
  bool terminated;
};

}  // namespace alf
