// Steps many Gymnasium environments, one after another, straight into shared columns. It makes what nearly all steps
// are, plain ones: MID, with a result of exact builtin and NumPy types. Whatever else comes, an end of an episode, a
// reset, unusual types and everything wrong, is left to the environment's Python method `step_into`, which gets the
// result of the Gymnasium step if that has been made by then. So there is one place that decides about these: Python.
//
// All state of an episode stays in the Python objects and is read and set there. Called with the GIL held.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "block_shape.h"
#include "plain_types.h"

namespace alf {

namespace py = pybind11;

constexpr int32_t kMid = 1;

// A column [R, B, ...] of a time step.
struct Column {
  py::array array;  // keeps the memory alive
  char* data = nullptr;
  int64_t ring_stride = 0;
  int64_t row_bytes = 0;
  int64_t num_rows = 0;

  Column() = default;
  // With a ring axis in front of the batch axis, or without.
  Column(py::array block, bool has_ring) : array(block) {
    row_bytes = alf::bytes_of_row(block, has_ring, "GymStepper");
    data = static_cast<char*>(block.mutable_data());
    num_rows = block.shape(has_ring ? 1 : 0);
    ring_stride = has_ring ? block.strides(0) : 0;
  }

  char* at(int64_t ring_row, int64_t row) const { return data + ring_row * ring_stride + row * row_bytes; }
};

template <typename T>
inline void store(char* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// The action of one environment, from its row of the shared block.
class ActionReader {
 public:
  ActionReader(const py::object& plain_step, py::array block) : column_(block, false), row_objects_(block) {
    const py::object gym_actions = plain_step.attr("gym_actions");
    if (!gym_actions.is_none()) {
      if (block.itemsize() != 8 || block.dtype().kind() != 'i' || block.ndim() != 1) {
        throw std::invalid_argument("GymStepper: a discrete action must be int64 [B]");
      }
      table_ = gym_actions.cast<std::vector<py::object>>();
      return;
    }
    dtype_ = block.dtype();
    shape_.assign(block.shape() + 1, block.shape() + block.ndim());
    const py::object bounds = plain_step.attr("action_bounds");
    if (bounds.is_none()) return;
    for (const char* side : {"low", "high"}) {
      const auto bound = bounds.attr(side).cast<py::array_t<float, py::array::c_style>>();
      if (dtype_.kind() != 'f' || block.itemsize() != 4 || bound.nbytes() != column_.row_bytes) {
        throw std::invalid_argument("GymStepper: bounds are for float32 actions of their own shape");
      }
      (side[0] == 'l' ? low_ : high_).assign(bound.data(), bound.data() + bound.size());
    }
  }

  int64_t num_rows() const { return column_.num_rows; }

  // What the environment is given; null if the action has no entry in the table.
  py::object read(int64_t row) const {
    if (!table_.empty()) {
      int64_t action;
      std::memcpy(&action, column_.at(0, row), sizeof action);
      if (action < 0 || action >= static_cast<int64_t>(table_.size())) return py::object();
      return table_[action];
    }
    py::array action(dtype_, shape_);  // a new one: environments may keep it
    char* to = static_cast<char*>(action.mutable_data());
    std::memcpy(to, column_.at(0, row), column_.row_bytes);
    float* numbers = reinterpret_cast<float*>(to);
    for (size_t i = 0; i < low_.size(); ++i) numbers[i] = std::min(std::max(numbers[i], low_[i]), high_[i]);
    return action;
  }

  // The action as it stands in the block, for Python to convert.
  py::object raw(int64_t row) const { return row_objects_[py::int_(row)]; }

 private:
  Column column_;
  py::object row_objects_;
  std::vector<py::object> table_;
  py::dtype dtype_;
  std::vector<py::ssize_t> shape_;
  std::vector<float> low_, high_;
};

// The observation: one array of the dtype of its column, or float64 for a float32 column.
class ObservationWriter {
 public:
  ObservationWriter(const py::object& plain_step, py::array block)
      : column_(block, true),
        dtype_(plain_step.attr("observation_dtype")),
        shape_(plain_step.attr("observation_shape").cast<std::vector<py::ssize_t>>()) {
    const py::dtype dtype = py::reinterpret_borrow<py::dtype>(dtype_);
    count_ = 1;
    for (py::ssize_t size : shape_) count_ *= size;
    narrows_ = !dtype.equal(block.dtype());
    const bool from_double = dtype.kind() == 'f' && dtype.itemsize() == 8 && block.dtype().kind() == 'f';
    if ((narrows_ && !from_double) || column_.row_bytes != count_ * (narrows_ ? 4 : dtype.itemsize())) {
      throw std::invalid_argument("GymStepper: the observation does not fit its column");
    }
  }

  // False, with nothing to rely on written, if Python has to have a look.
  bool write(const PlainTypes& types, PyObject* observation, int64_t ring_row, int64_t row) const {
    if (!types.is_array(observation)) return false;
    const py::array array = py::reinterpret_borrow<py::array>(observation);
    if (array.dtype().ptr() != dtype_.ptr() || array.ndim() != static_cast<py::ssize_t>(shape_.size()) ||
        !std::equal(shape_.begin(), shape_.end(), array.shape()) || !(array.flags() & py::array::c_style)) {
      return false;
    }
    const char* from = static_cast<const char*>(array.data());
    char* to = column_.at(ring_row, row);
    if (!narrows_) {
      std::memcpy(to, from, column_.row_bytes);
      return true;
    }
    bool fits = true;  // also false for NaN
    for (int64_t i = 0; i < count_; ++i) fits &= std::fabs(load(from, i)) <= FLT_MAX;
    if (!fits) return false;
    for (int64_t i = 0; i < count_; ++i) store(to + 4 * i, static_cast<float>(load(from, i)));
    return true;
  }

  const Column& column() const { return column_; }

 private:
  static double load(const char* from, int64_t i) {
    double value;
    std::memcpy(&value, from + 8 * i, sizeof value);
    return value;
  }

  Column column_;
  py::object dtype_;
  std::vector<py::ssize_t> shape_;
  int64_t count_;
  bool narrows_;
};

// The numbers of `info`. Where one is missing or of another kind than its column, Python writes all of them.
class EnvInfoWriter {
 public:
  EnvInfoWriter(const py::object& plain_step, const std::vector<py::array>& blocks)
      : write_(plain_step.attr("write_env_info")) {
    for (const py::array& block : blocks) columns_.emplace_back(block, true);
    if (columns_.empty()) return;
    const py::object keys = plain_step.attr("env_info_keys");
    if (keys.is_none()) return;
    for (py::handle key : keys) keys_.push_back(py::reinterpret_borrow<py::object>(key));
    if (keys_.size() != columns_.size()) throw std::invalid_argument("GymStepper: expected one key per column");
    for (const py::array& block : blocks) kinds_.push_back(kind_of(block));
  }

  void write(const PlainTypes& types, PyObject* info, const py::object& rows, int64_t ring_row, int64_t row) const {
    if (columns_.empty() || (!keys_.empty() && write_plain(types, info, ring_row, row))) return;
    write_(rows.attr("env_info"), row, py::handle(info));
  }

  const std::vector<Column>& columns() const { return columns_; }

 private:
  static char kind_of(const py::array& block) {
    if (block.ndim() == 2 && block.dtype().kind() == 'f' && block.itemsize() == 4) return 'f';
    if (block.ndim() == 2 && block.dtype().kind() == 'i' && block.itemsize() == 8) return 'i';
    if (block.ndim() == 2 && block.dtype().kind() == 'b') return 'b';
    throw std::invalid_argument("GymStepper: keys are for columns of float32, int64 or bool scalars");
  }

  bool write_plain(const PlainTypes& types, PyObject* info, int64_t ring_row, int64_t row) const {
    for (size_t k = 0; k < keys_.size(); ++k) {
      PyObject* value = PyDict_GetItemWithError(info, keys_[k].ptr());
      if (!value) {
        if (PyErr_Occurred()) throw py::error_already_set();
        return false;
      }
      char* to = columns_[k].at(ring_row, row);
      float as_float;
      int64_t as_int;
      bool as_bool;
      if (kinds_[k] == 'f' && types.read_float(value, &as_float)) {
        store(to, as_float);
      } else if (kinds_[k] == 'i' && types.read_int(value, &as_int)) {
        store(to, as_int);
      } else if (kinds_[k] == 'b' && types.read_bool(value, &as_bool)) {
        store(to, as_bool);
      } else {
        return false;
      }
    }
    return true;
  }

  py::object write_;
  std::vector<Column> columns_;
  std::vector<py::object> keys_;
  std::vector<char> kinds_;
};

// Environments of one share: rows `start` to `start + plain_steps.size() - 1`.
class GymStepper {
 public:
  // plain_steps, step_intos: one PlainStep and one bound `step_into` for each environment.
  // rows: the Rows of each ring row, for Python.
  GymStepper(py::array step_type, py::array reward, py::array discount, py::array observation, py::array action,
             const std::vector<py::array>& env_info, std::vector<py::object> rows, int64_t start,
             const std::vector<py::object>& plain_steps, const std::vector<py::object>& step_intos, py::object numbers)
      : types_(numbers),
        step_type_(step_type, true),
        reward_(reward, true),
        discount_(discount, true),
        rows_(rows),
        start_(start) {
    const int64_t stop = start + static_cast<int64_t>(plain_steps.size());
    for (const Column* column : {&step_type_, &reward_, &discount_}) check(*column, stop);
    if (step_type_.row_bytes != 4 || reward_.row_bytes != 4 || discount_.row_bytes != 4 ||
        plain_steps.size() != step_intos.size()) {
      throw std::invalid_argument("GymStepper: expected 4 bytes a row for step_type, reward and discount");
    }
    for (size_t i = 0; i < plain_steps.size(); ++i) {
      envs_.emplace_back(plain_steps[i], step_intos[i], observation, action, env_info);
      check(envs_.back().observation.column(), stop);
      for (const Column& column : envs_.back().env_info.columns()) check(column, stop);
      if (envs_.back().action.num_rows() < stop) throw std::out_of_range("GymStepper: rows outside the actions");
    }
  }

  // Steps every environment with its shared action and writes time step `ring_row`.
  void step(int64_t ring_row) const {
    if (ring_row < 0 || ring_row >= static_cast<int64_t>(rows_.size())) {
      throw std::out_of_range("GymStepper: ring row outside the shared blocks");
    }
    for (size_t i = 0; i < envs_.size(); ++i) step_env(envs_[i], ring_row, start_ + static_cast<int64_t>(i));
  }

 private:
  struct Env {
    Env(const py::object& plain_step, const py::object& step_into, py::array observation, py::array action,
        const std::vector<py::array>& env_info)
        : env(plain_step.attr("env")),
          gym_step(plain_step.attr("gym_step")),
          step_into(step_into),
          counters(plain_step.attr("counters").cast<std::vector<py::object>>()),
          discount(plain_step.attr("discount").cast<float>()),
          action(plain_step, action),
          observation(plain_step, observation),
          env_info(plain_step, env_info) {}

    py::object env;        // the AlfGymWrapper, which holds the state of the episode
    py::object gym_step;   // of the Gymnasium environment
    py::object step_into;  // of the outermost wrapper
    std::vector<py::object> counters;
    float discount;
    ActionReader action;
    ObservationWriter observation;
    EnvInfoWriter env_info;
  };

  void check(const Column& column, int64_t stop) const {
    if (start_ < 0 || stop > column.num_rows || column.array.shape(0) != static_cast<py::ssize_t>(rows_.size())) {
      throw std::out_of_range("GymStepper: rows outside the shared blocks");
    }
  }

  void step_env(const Env& env, int64_t ring_row, int64_t row) const {
    py::object action = env.action.read(row);
    if (!action) {
      action = env.action.raw(row);
    } else if (!at_end(env)) {
      PyObject* arguments[2] = {nullptr, action.ptr()};
      const py::object result = py::reinterpret_steal<py::object>(
          PyObject_Vectorcall(env.gym_step.ptr(), arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
      if (!result) throw py::error_already_set();
      if (write_plain(env, result.ptr(), ring_row, row)) return;
      made_result_.set(env.env, py::make_tuple(result).ptr());
    }
    env.step_into(rows_[ring_row], row, action);
  }

  // Writes the result of a plain step; false if Python has to.
  bool write_plain(const Env& env, PyObject* result, int64_t ring_row, int64_t row) const {
    if (!PyTuple_CheckExact(result) || PyTuple_GET_SIZE(result) != 5) return false;
    PyObject* info = PyTuple_GET_ITEM(result, 4);
    float reward;
    if (!types_.is_false(PyTuple_GET_ITEM(result, 2)) || !types_.is_false(PyTuple_GET_ITEM(result, 3)) ||
        !PyDict_CheckExact(info) || !types_.read_float(PyTuple_GET_ITEM(result, 1), &reward) ||
        !env.observation.write(types_, PyTuple_GET_ITEM(result, 0), ring_row, row)) {
      return false;
    }
    store(reward_.at(ring_row, row), reward);
    info_.set(env.env, info);
    env.env_info.write(types_, info, rows_[ring_row], ring_row, row);
    store(discount_.at(ring_row, row), env.discount);
    store(step_type_.at(ring_row, row), kMid);
    for (const py::object& counter : env.counters) {
      num_steps_.set(counter, py::int_(count_of(num_steps_.get(counter)) + 1).ptr());
    }
    return true;
  }

  // Whether a reset is due, or the next step is the last one that a counting wrapper lets an episode have.
  bool at_end(const Env& env) const {
    if (reset_due_.is_true(env.env)) return true;
    for (const py::object& counter : env.counters) {
      if (reset_due_.is_true(counter)) return true;
      const py::object limit = limit_.get(counter);
      if (!limit.is_none() && count_of(num_steps_.get(counter)) + 1 >= count_of(limit)) return true;
    }
    return false;
  }

  static int64_t count_of(const py::object& number) {
    const int64_t count = PyLong_AsLongLong(number.ptr());
    if (count == -1 && PyErr_Occurred()) throw py::error_already_set();
    return count;
  }

  PlainTypes types_;
  Attribute reset_due_{"_reset_due"}, info_{"_info"}, made_result_{"_made_result"};
  Attribute num_steps_{"_num_steps"}, limit_{"_limit"};
  Column step_type_, reward_, discount_;
  std::vector<py::object> rows_;
  int64_t start_;
  std::vector<Env> envs_;
};

}  // namespace alf
