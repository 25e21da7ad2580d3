// Python module alf._parallel_env: Signals, RowKeeper and GymStepper over arrays that lie in shared memory.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "block_shape.h"
#include "gym_stepper.h"
#include "row_keeper.h"
#include "signals.h"

namespace py = pybind11;

namespace {

// Keeps the array, and with it the mapping, alive as long as its address is in use.
class PySignals {
 public:
  PySignals(py::array lines, double spin_seconds)
      : lines_(lines), signals_(lines.mutable_data(), checked_count(lines), spin_seconds) {}

  uint32_t post(size_t worker, uint32_t code) { return signals_.post(worker, code); }

  std::vector<uint32_t> post_all(uint32_t code) {
    std::vector<uint32_t> tickets(signals_.num_workers());
    for (size_t worker = 0; worker < tickets.size(); ++worker) tickets[worker] = signals_.post(worker, code);
    return tickets;
  }

  bool wait(size_t worker, uint32_t ticket, double seconds) {
    if (signals_.is_done(worker, ticket)) return true;
    py::gil_scoped_release release;
    return signals_.wait(worker, ticket, seconds);
  }

  // First worker whose ticket is not done after `seconds`; else -1, or -2 if commands have failed, or -3 if counters are
  // damaged.
  int wait_all(const std::vector<uint32_t>& tickets, double seconds) {
    if (tickets.size() > signals_.num_workers()) throw std::out_of_range("Signals: more tickets than workers");
    size_t worker = 0;
    while (worker < tickets.size() && signals_.is_done(worker, tickets[worker])) ++worker;
    if (worker < tickets.size()) {
      py::gil_scoped_release release;
      const double end = alf::now_seconds() + seconds;
      for (; worker < tickets.size(); ++worker) {
        const double left = end - alf::now_seconds();
        if (!signals_.wait(worker, tickets[worker], left > 0 ? left : 0)) return static_cast<int>(worker);
      }
    }
    if (signals_.any_damaged()) return -3;
    return signals_.any_failed() ? -2 : -1;
  }

  int64_t next(size_t worker, double seconds) {
    uint32_t code = 0;
    bool found;
    {
      py::gil_scoped_release release;
      found = signals_.next(worker, seconds, &code);
    }
    return found ? static_cast<int64_t>(code) : -1;
  }

  void finish(size_t worker, bool failed) { signals_.finish(worker, failed); }

 private:
  static size_t checked_count(const py::array& lines) {
    if (lines.ndim() != 2 || lines.nbytes() != lines.shape(0) * 64 || !(lines.flags() & py::array::c_style) ||
        reinterpret_cast<uintptr_t>(lines.data()) % 64) {
      throw std::invalid_argument("Signals: expected an aligned, contiguous array of 64 bytes per worker");
    }
    return static_cast<size_t>(lines.shape(0));
  }

  py::array lines_;
  alf::Signals signals_;
};

alf::Block to_block(py::array array, bool has_ring) {
  alf::Block block;
  block.row_bytes = alf::bytes_of_row(array, has_ring, "RowKeeper");
  block.data = static_cast<char*>(array.mutable_data());
  block.ring_stride = has_ring ? array.strides(0) : 0;
  block.float_bytes = array.dtype().kind() == 'f' ? array.itemsize() : 0;
  return block;
}

class PyRowKeeper {
 public:
  PyRowKeeper(py::array step_type, std::vector<py::array> prev_actions, std::vector<py::array> actions,
              std::vector<py::array> checked)
      : arrays_(collect(step_type, prev_actions, actions, checked)),
        ring_rows_(step_type.ndim() == 2 ? step_type.shape(0) : 0),
        batch_size_(step_type.ndim() == 2 ? step_type.shape(1) : 0),
        keeper_(to_block(step_type, true), to_blocks(prev_actions, true), to_blocks(actions, false),
                to_blocks(checked, true)) {
    if (step_type.ndim() != 2 || step_type.itemsize() != 4 || prev_actions.size() != actions.size()) {
      throw std::invalid_argument("RowKeeper: step_type must be int32, and each action needs its previous action");
    }
    for (const std::vector<py::array>* arrays : {&prev_actions, &checked}) {
      for (const py::array& array : *arrays) {
        if (array.shape(0) != ring_rows_ || array.shape(1) != batch_size_) {
          throw std::invalid_argument("RowKeeper: expected as many rows as step_type has in every block");
        }
      }
    }
    for (size_t k = 0; k < actions.size(); ++k) {
      if (actions[k].shape(0) != batch_size_) {
        throw std::invalid_argument("RowKeeper: expected an action for each environment");
      }
      if (actions[k].nbytes() * ring_rows_ != prev_actions[k].nbytes()) {
        throw std::invalid_argument("RowKeeper: an action and its previous action differ in size");
      }
    }
  }

  py::object begin(int64_t ring_row, int64_t start, int64_t stop) const {
    check(ring_row, start, stop);
    return to_python(keeper_.begin(ring_row, start, stop));
  }

  py::object finish(int64_t ring_row, int64_t start, int64_t stop) const {
    check(ring_row, start, stop);
    return to_python(keeper_.finish(ring_row, start, stop));
  }

 private:
  static std::vector<alf::Block> to_blocks(const std::vector<py::array>& arrays, bool has_ring) {
    std::vector<alf::Block> blocks;
    for (const py::array& array : arrays) blocks.push_back(to_block(array, has_ring));
    return blocks;
  }

  static std::vector<py::array> collect(py::array first, std::vector<py::array> a, const std::vector<py::array>& b,
                                        const std::vector<py::array>& c) {
    a.push_back(first);
    a.insert(a.end(), b.begin(), b.end());
    a.insert(a.end(), c.begin(), c.end());
    return a;
  }

  void check(int64_t ring_row, int64_t start, int64_t stop) const {
    if (ring_row < 0 || ring_row >= ring_rows_ || start < 0 || stop > batch_size_ || start > stop) {
      throw std::out_of_range("RowKeeper: rows outside the shared blocks");
    }
  }

  static py::object to_python(const alf::BadValue& bad) {
    if (bad.block < 0) return py::none();
    return py::make_tuple(bad.block, bad.row, bad.offset);
  }

  std::vector<py::array> arrays_;  // keeps the memory alive
  int64_t ring_rows_;
  int64_t batch_size_;
  alf::RowKeeper keeper_;
};

}  // namespace

PYBIND11_MODULE(_parallel_env, m) {
  m.doc() = "Native parts of the parallel environments: process signals and batch bookkeeping in shared memory.";
  m.attr("SLOTS") = alf::kSlots;

  py::class_<PySignals>(m, "Signals", "Commands to workers and their completion; see alf.environments._pool._twin.")
      .def(py::init<py::array, double>(), py::arg("lines"), py::arg("spin_seconds"))
      .def("post", &PySignals::post, py::arg("worker"), py::arg("code"))
      .def("post_all", &PySignals::post_all, py::arg("code"))
      .def("wait", &PySignals::wait, py::arg("worker"), py::arg("ticket"), py::arg("seconds"))
      .def("wait_all", &PySignals::wait_all, py::arg("tickets"), py::arg("seconds"))
      .def("next", &PySignals::next, py::arg("worker"), py::arg("seconds"))
      .def("finish", &PySignals::finish, py::arg("worker"), py::arg("failed"));

  py::class_<PyRowKeeper>(m, "RowKeeper", "Bookkeeping for all rows of a host; see alf.environments._pool._twin.")
      .def(py::init<py::array, std::vector<py::array>, std::vector<py::array>, std::vector<py::array>>(),
           py::arg("step_type"), py::arg("prev_actions"), py::arg("actions"), py::arg("checked"))
      .def("begin", &PyRowKeeper::begin, py::arg("ring_row"), py::arg("start"), py::arg("stop"))
      .def("finish", &PyRowKeeper::finish, py::arg("ring_row"), py::arg("start"), py::arg("stop"));

  py::class_<alf::GymStepper>(m, "GymStepper", "Steps a share of AlfGymWrappers; see alf.environments._plain_step.")
      .def(py::init<py::array, py::array, py::array, py::array, py::array, std::vector<py::array>,
                    std::vector<py::object>, int64_t, std::vector<py::object>, std::vector<py::object>, py::object>(),
           py::arg("step_type"), py::arg("reward"), py::arg("discount"), py::arg("observation"), py::arg("action"),
           py::arg("env_info"), py::arg("rows"), py::arg("start"), py::arg("plain_steps"), py::arg("step_intos"),
           py::arg("numbers"))
      .def("step", &alf::GymStepper::step, py::arg("ring_row"));
}
