// Python module alf._replay: what a replay buffer does for every stored and every sampled step.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "row_store.h"
#include "sampling.h"
#include "segment_tree.h"

namespace py = pybind11;
using alf::Float64s;
using alf::Int64s;
using alf::Torch;

namespace {

void check_indices(const Int64s& indices, int64_t end, const char* name) {
  for (int64_t i = 0; i < indices.size; ++i) {
    if (indices.data[i] < 0 || indices.data[i] >= end) {
      throw py::index_error(std::string(name) + "[" + std::to_string(i) + "]: expected 0 to " +
                            std::to_string(end - 1) + ", got " + std::to_string(indices.data[i]));
    }
  }
}

void check_same_size(int64_t expected, int64_t got, const char* name) {
  if (expected != got) {
    throw py::value_error(std::string(name) + ": expected " + std::to_string(expected) + " elements, got " +
                          std::to_string(got));
  }
}

int64_t at_least_one(int64_t value, const char* name) {
  if (value < 1) throw py::value_error(std::string(name) + ": expected >= 1, got " + std::to_string(value));
  return value;
}

template <alf::Op op>
void bind_tree(py::module_& module, const char* name) {
  using Tree = alf::SegmentTree<op>;
  auto cls = py::class_<Tree>(module, name);
  cls.def(py::init([](int64_t capacity) { return Tree(at_least_one(capacity, "capacity")); }))
      .def("set",
           [](Tree& tree, const py::object& indices, const py::object& values) {
             Int64s where(indices, "indices");
             Float64s what(values, "values");
             check_indices(where, tree.capacity(), "indices");
             check_same_size(where.size, what.size, "values");
             tree.set(where.data, what.data, where.size);
           })
      .def("get",
           [](const Tree& tree, const py::object& indices) {
             Int64s where(indices, "indices");
             check_indices(where, tree.capacity(), "indices");
             void* data;
             py::object made = Torch::get().make(alf::kFloat64, where.shape(), &data);
             for (int64_t i = 0; i < where.size; ++i) static_cast<double*>(data)[i] = tree.at(where.data[i]);
             return made;
           })
      .def("summary", &Tree::summary);
  if constexpr (op == alf::Op::kSum) {
    cls.def("num_nonzero",
            [](const Tree& tree) {
              int64_t count = 0;
              for (int64_t i = 0; i < tree.capacity(); ++i) count += tree.at(i) != 0;
              return count;
            })
        .def("find", [](const Tree& tree, const py::object& bounds) {
          Float64s what(bounds, "bounds");
          void* data;
          py::object made = Torch::get().make(alf::kInt64, what.shape(), &data);
          if (what.size && !(tree.summary() > 0)) throw py::value_error("find: the sum of the values is not positive");
          tree.find(what.data, what.size, static_cast<int64_t*>(data));
          return made;
        });
  }
}

// counts: int64 [3, num_environments], of which the first two rows are positions and sizes.
struct Counts : Int64s {
  explicit Counts(const py::object& counts) : Int64s(counts, "counts") {
    if (tensor.ndim != 2 || tensor.shape[0] != 3) throw py::value_error("counts: expected [3, N]");
    num_environments = tensor.shape[1];
  }
  const int64_t* positions() const { return data; }
  const int64_t* sizes() const { return data + num_environments; }
  int64_t num_environments;
};

int64_t count_starts(const py::object& counts_object, int64_t length, int64_t ignored, int64_t interval,
                     int64_t recent) {
  Counts counts(counts_object);
  at_least_one(interval, "interval");
  int64_t total = 0;
  for (int64_t env = 0; env < counts.num_environments; ++env) {
    total += alf::StartRange(counts.positions()[env], counts.sizes()[env], length, ignored, interval, recent).count;
  }
  return total;
}

py::tuple locate_starts(const py::object& drawn_object, const py::object& counts_object, int64_t length,
                        int64_t ignored, int64_t interval, int64_t recent) {
  Int64s drawn(drawn_object, "drawn");
  Counts counts(counts_object);
  at_least_one(interval, "interval");
  std::vector<alf::StartRange> ranges;
  std::vector<int64_t> ends;
  int64_t total = 0;
  bool equal = true;
  for (int64_t env = 0; env < counts.num_environments; ++env) {
    ranges.emplace_back(counts.positions()[env], counts.sizes()[env], length, ignored, interval, recent);
    ends.push_back(total += ranges[env].count);
    equal = equal && ranges[env].count == ranges[0].count;
  }
  check_indices(drawn, total, "drawn");
  void *envs_data, *positions_data;
  py::object envs = Torch::get().make(alf::kInt64, {drawn.size}, &envs_data);
  py::object positions = Torch::get().make(alf::kInt64, {drawn.size}, &positions_data);
  for (int64_t i = 0; i < drawn.size; ++i) {
    const int64_t env = equal ? drawn.data[i] / ranges[0].count
                              : std::upper_bound(ends.begin(), ends.end(), drawn.data[i]) - ends.begin();
    static_cast<int64_t*>(envs_data)[i] = env;
    static_cast<int64_t*>(positions_data)[i] =
        ranges[env].first + (drawn.data[i] - ends[env] + ranges[env].count) * interval;
  }
  return py::make_tuple(envs, positions);
}

class PyPriorities {
 public:
  PyPriorities(const py::object& priorities, const py::object& counts, int64_t interval)
      : priorities_(priorities), counts_object_(counts), counts_(counts),
        max_length_(length_of(Float64s(priorities, "priorities").size, counts_.num_environments)),
        impl_(Float64s(priorities, "priorities").data, counts_.num_environments, max_length_,
              at_least_one(interval, "interval")) {}

  // (Problem, index of the first one with it, largest value)
  py::tuple update(const py::object& env_ids, const py::object& positions, const py::object& values) {
    Int64s envs(env_ids, "env_ids"), where(positions, "positions");
    Float64s what(values, "priorities");
    check_indices(envs, counts_.num_environments, "env_ids");
    check_indices(where, INT64_MAX, "positions");
    check_same_size(envs.size, where.size, "positions");
    check_same_size(envs.size, what.size, "priorities");
    int64_t index;
    const auto problem = impl_.update(envs.data, where.data, what.data, envs.size, counts_.positions(),
                                      counts_.sizes(), &index);
    double largest = 0;
    for (int64_t i = 0; i < what.size; ++i) largest = std::max(largest, what.data[i]);
    return py::make_tuple(static_cast<int64_t>(problem), index, largest);
  }

  void fill(const py::object& env_ids, int64_t num_steps, double value) {
    Int64s envs(env_ids, "env_ids");
    check_indices(envs, counts_.num_environments, "env_ids");
    for (int64_t i = 0; i < envs.size; ++i) {
      impl_.fill(envs.data[i], counts_.positions()[envs.data[i]], num_steps, value);
    }
  }

  double synchronize(int64_t length, int64_t ignored) {
    impl_.synchronize(counts_.positions(), counts_.sizes(), length, ignored);
    return impl_.total();
  }

  py::tuple find(const py::object& bounds) const {
    Float64s what(bounds, "bounds");
    if (what.size && !(impl_.total() > 0)) throw py::value_error("find: the sum of the values is not positive");
    void *envs, *positions, *values;
    py::object made_envs = Torch::get().make(alf::kInt64, {what.size}, &envs);
    py::object made_positions = Torch::get().make(alf::kInt64, {what.size}, &positions);
    py::object made_values = Torch::get().make(alf::kFloat64, {what.size}, &values);
    impl_.find(what.data, what.size, static_cast<int64_t*>(envs), static_cast<int64_t*>(positions),
               static_cast<double*>(values));
    return py::make_tuple(made_envs, made_positions, made_values);
  }

  // What the starts at positions have in the tree.
  py::object weights(const py::object& env_ids, const py::object& positions) const {
    Int64s envs(env_ids, "env_ids"), where(positions, "positions");
    check_indices(envs, counts_.num_environments, "env_ids");
    check_indices(where, INT64_MAX, "positions");
    check_same_size(envs.size, where.size, "positions");
    void* values;
    py::object made = Torch::get().make(alf::kFloat64, {envs.size}, &values);
    for (int64_t i = 0; i < envs.size; ++i) static_cast<double*>(values)[i] = impl_.at(envs.data[i], where.data[i]);
    return made;
  }

 private:
  // Steps of each environment.
  static int64_t length_of(int64_t size, int64_t num_environments) {
    if (num_environments < 1 || size < 1 || size % num_environments != 0) {
      throw py::value_error("priorities: expected the same number, at least one, for each of " +
                            std::to_string(num_environments) + " environments, got " + std::to_string(size));
    }
    return size / num_environments;
  }

  py::object priorities_, counts_object_;  // own the memory
  Counts counts_;
  int64_t max_length_;
  alf::Priorities impl_;
};

}  // namespace

PYBIND11_MODULE(_replay, module) {
  Torch::get();  // fails here, at import, where torch cannot be used
  py::class_<alf::RowStore>(module, "RowStore")
      .def(py::init<const py::list&, const py::list&, const py::object&, const py::object&, int64_t>())
      .def("append", &alf::RowStore::append)
      .def("read", &alf::RowStore::read)
      .def("read_sequences", &alf::RowStore::read_sequences);
  bind_tree<alf::Op::kSum>(module, "SumTree");
  bind_tree<alf::Op::kMin>(module, "MinTree");
  bind_tree<alf::Op::kMax>(module, "MaxTree");
  py::class_<PyPriorities>(module, "Priorities")
      .def(py::init<const py::object&, const py::object&, int64_t>())
      .def("update", &PyPriorities::update)
      .def("fill", &PyPriorities::fill)
      .def("synchronize", &PyPriorities::synchronize)
      .def("find", &PyPriorities::find)
      .def("weights", &PyPriorities::weights);
  module.def("count_starts", &count_starts);
  module.def("locate_starts", &locate_starts);
  module.def("repeated", [](const py::object& drawn) {
    Int64s array(drawn, "drawn");
    return alf::repeated(array.data, array.size);
  });
}
