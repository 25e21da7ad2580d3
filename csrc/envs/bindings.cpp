// Python module alf._envs: batches of classic-control environments.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "acrobot.h"
#include "batch.h"
#include "cart_pole.h"
#include "continuous_mountain_car.h"
#include "mountain_car.h"
#include "pendulum.h"

namespace py = pybind11;
using alf::Batch;

namespace {

constexpr int64_t kLargeBatch = 64;  // one that is worth letting other threads run meanwhile

template <typename Env>
std::unique_ptr<Batch> make(int64_t batch_size, float discount, int64_t max_episode_steps) {
  return std::make_unique<alf::BatchOf<Env>>(batch_size, discount, max_episode_steps);
}

using Maker = std::unique_ptr<Batch> (*)(int64_t, float, int64_t);

const std::pair<const char*, Maker> kMakers[] = {
    {"CartPole", make<alf::CartPole>},
    {"MountainCar", make<alf::MountainCar>},
    {"MountainCarContinuous", make<alf::ContinuousMountainCar>},
    {"Pendulum", make<alf::Pendulum>},
    {"Acrobot", make<alf::Acrobot>},
};

std::unique_ptr<Batch> make_named(const std::string& name, int64_t batch_size, float discount,
                                  int64_t max_episode_steps) {
  if (batch_size < 1) throw py::value_error("batch_size: expected >= 1, got " + std::to_string(batch_size));
  for (const auto& [known, maker] : kMakers) {
    if (name == known) return maker(batch_size, discount, max_episode_steps);
  }
  throw py::value_error("name: no environment is called '" + name + "'");
}

template <typename T>
T* block(const py::array& array, std::vector<py::ssize_t> shape, const char* name) {
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(array) ||
      std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()) != shape) {
    throw py::value_error(std::string(name) + ": expected a contiguous block [R, B, ...] of the right dtype");
  }
  return static_cast<T*>(py::array(array).mutable_data());
}

void attach(Batch& batch, const py::array& step_type, const py::array& reward, const py::array& discount,
            const py::array& observation, const py::array& prev_action) {
  const py::ssize_t rows = step_type.ndim() > 0 ? step_type.shape(0) : 0, size = batch.batch_size();
  if (rows < 1) throw py::value_error("step_type: expected a block [R, B] of at least one row");
  batch.attach({rows, block<int32_t>(step_type, {rows, size}, "step_type"),
                block<float>(reward, {rows, size}, "reward"),
                block<float>(discount, {rows, size}, "discount"),
                block<float>(observation, {rows, size, batch.observation_size()}, "observation"),
                batch.is_discrete() ? static_cast<void*>(block<int64_t>(prev_action, {rows, size}, "prev_action"))
                                    : block<float>(prev_action, {rows, size, 1}, "prev_action")});
}

// The batch, if there is a ring to write to.
Batch& attached(Batch& batch) {
  if (!batch.is_attached()) throw std::runtime_error("Batch: call attach before the first reset");
  return batch;
}

int64_t reset(Batch& batch) { return attached(batch).reset(); }

int64_t advance(Batch& batch) { return attached(batch).advance(); }

// The row of the ring that was written, or -1 if the action is no tensor of the right kind.
int64_t step(Batch& batch, const py::object& action) {
  if (!attached(batch).take_action(action.ptr())) return -1;
  if (batch.batch_size() < kLargeBatch) return batch.step();
  py::gil_scoped_release release;
  return batch.step();
}

template <typename To, typename From>
py::array to_array(const std::vector<From>& values, py::ssize_t batch_size) {
  static_assert(sizeof(To) == sizeof(From));
  const auto width = static_cast<py::ssize_t>(values.size()) / batch_size;
  return py::array_t<To>({batch_size, width}, reinterpret_cast<const To*>(values.data()));
}

template <typename From, typename To>
void from_array(const py::dict& fields, const char* name, std::vector<To>& values) {
  static_assert(sizeof(To) == sizeof(From));
  const auto array = py::array_t<From, py::array::c_style | py::array::forcecast>::ensure(fields[name]);
  if (!array || static_cast<size_t>(array.size()) != values.size()) {
    throw py::value_error(std::string(name) + ": expected " + std::to_string(values.size()) + " numbers");
  }
  const To* data = reinterpret_cast<const To*>(array.data());
  values.assign(data, data + array.size());
}

template <typename T, typename Holds>
void check_all(const std::vector<T>& values, const char* name, const char* expected, Holds holds) {
  for (T value : values) {
    if (!holds(value)) throw py::value_error(std::string(name) + ": expected " + expected + ", got " + std::to_string(value));
  }
}

// 64 bits of a random state are kept as int64, which everything that stores arrays knows.
py::dict get_state(Batch& batch) {
  const auto& state = batch.state();
  const py::ssize_t size = batch.batch_size();
  py::dict fields;
  fields["state"] = to_array<double>(state.state, size);
  fields["random"] = to_array<int64_t>(state.random, size);
  fields["next_random"] = to_array<int64_t>(state.next_random, size);
  fields["has_next_random"] = to_array<int64_t>(state.has_next_random, size);
  fields["num_steps"] = to_array<int64_t>(state.num_steps, size);
  fields["step_type"] = to_array<int64_t>(state.step_type, size);
  return fields;
}

void set_state(Batch& batch, const py::dict& fields) {
  alf::BatchState state = batch.state();  // a copy: either all fields are set or none
  from_array<double>(fields, "state", state.state);
  from_array<int64_t>(fields, "random", state.random);
  from_array<int64_t>(fields, "next_random", state.next_random);
  from_array<int64_t>(fields, "has_next_random", state.has_next_random);
  from_array<int64_t>(fields, "num_steps", state.num_steps);
  from_array<int64_t>(fields, "step_type", state.step_type);
  // Beyond this some environment would not come to an end with bringing an angle back to [-pi, pi].
  check_all(state.state, "state", "numbers between -1e9 and 1e9", [](double x) { return std::fabs(x) <= 1e9; });
  check_all(state.num_steps, "num_steps", "numbers >= 0", [](int64_t steps) { return steps >= 0; });
  check_all(state.step_type, "step_type", "0, 1 or 2", [](int64_t type) { return type >= 0 && type <= alf::kLast; });
  batch.state() = std::move(state);
}

// words: uint64 [B, 4]; the next reset of each row begins with them.
void seed(Batch& batch, const py::array_t<uint64_t, py::array::c_style>& words) {
  auto& state = batch.state();
  if (static_cast<size_t>(words.size()) != state.next_random.size()) {
    throw py::value_error("words: expected 4 numbers for each environment");
  }
  state.next_random.assign(words.data(), words.data() + words.size());
  state.has_next_random.assign(state.has_next_random.size(), 1);
}

}  // namespace

PYBIND11_MODULE(_envs, module) {
  module.doc() = "Batches of classic-control environments, step for step those of Gymnasium.";
  alf::Torch::get();  // raises ImportError now rather than in the first step
  alf::NumpyMath();
  py::class_<Batch>(module, "Batch")
      .def(py::init(&make_named), py::arg("name"), py::arg("batch_size"), py::arg("discount"),
           py::arg("max_episode_steps"))
      // The arrays must outlive the batch: it keeps them.
      .def("attach", &attach, py::arg("step_type"), py::arg("reward"), py::arg("discount"), py::arg("observation"),
           py::arg("prev_action"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
           py::keep_alive<1, 5>(), py::keep_alive<1, 6>())
      .def("reset", &reset)
      .def("step", &step)
      .def("advance", &advance)
      .def("seed", &seed)
      .def("get_state", &get_state)
      .def("set_state", &set_state);
}
