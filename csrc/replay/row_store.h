// RowStore: the rings of a replay buffer. Appends steps out of a nest of tensors, reads steps into new tensors.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "large_pages.h"
#include "tensors.h"

namespace alf {

// The structure of the nest of a step: which types to find, and which leaf is where.
struct Node {
  enum Kind { kLeaf, kTuple, kList, kDict } kind = kLeaf;
  py::object type;                // exact class of the container
  std::vector<py::object> keys;   // of a dictionary
  std::vector<Node> children;     // in the order of the container (of keys)
  size_t leaf = 0;

  // plan: an int (leaf), or (type, children) of a tuple or list, or (type, children, keys) of a dictionary.
  static Node parse(const py::handle& plan) {
    Node node;
    if (py::isinstance<py::int_>(plan)) {
      node.leaf = plan.cast<size_t>();
      return node;
    }
    auto parts = plan.cast<py::tuple>();
    node.type = parts[0];
    if (!PyType_Check(node.type.ptr())) throw py::type_error("plan: expected the class of a nest");
    auto* type = reinterpret_cast<PyTypeObject*>(node.type.ptr());
    node.kind = PyType_IsSubtype(type, &PyDict_Type)    ? kDict
                : PyType_IsSubtype(type, &PyList_Type) ? kList
                                                       : kTuple;
    for (auto child : parts[1]) node.children.push_back(parse(child));
    if (node.kind == kDict) {
      for (auto key : parts[2]) node.keys.push_back(py::reinterpret_borrow<py::object>(key));
    }
    return node;
  }

  // One more than the largest index of a leaf.
  size_t num_leaves() const {
    size_t number = kind == kLeaf ? leaf + 1 : 0;
    for (const Node& child : children) number = std::max(number, child.num_leaves());
    return number;
  }

  // Puts the leaves (borrowed) in their places; false if the nest is another one.
  bool collect(PyObject* nest, std::vector<PyObject*>* leaves) const {
    if (kind == kLeaf) {
      (*leaves)[leaf] = nest;
      return true;
    }
    if (reinterpret_cast<PyObject*>(Py_TYPE(nest)) != type.ptr()) return false;
    const auto size = static_cast<Py_ssize_t>(children.size());
    if (kind == kTuple) {
      if (PyTuple_GET_SIZE(nest) != size) return false;
      for (Py_ssize_t i = 0; i < size; ++i) {
        if (!children[i].collect(PyTuple_GET_ITEM(nest, i), leaves)) return false;
      }
    } else if (kind == kList) {
      if (PyList_GET_SIZE(nest) != size) return false;
      for (Py_ssize_t i = 0; i < size; ++i) {
        if (!children[i].collect(PyList_GET_ITEM(nest, i), leaves)) return false;
      }
    } else {
      if (PyDict_Size(nest) != size) return false;
      for (Py_ssize_t i = 0; i < size; ++i) {
        PyObject* child = PyDict_GetItemWithError(nest, keys[i].ptr());
        if (child == nullptr) {
          PyErr_Clear();
          return false;
        }
        if (!children[i].collect(child, leaves)) return false;
      }
    }
    return true;
  }

  // A nest of this structure with new leaves.
  py::object build(const std::vector<py::object>& leaves) const {
    if (kind == kLeaf) return leaves[leaf];
    if (kind == kDict) {
      py::object dict = type();
      for (size_t i = 0; i < children.size(); ++i) {
        if (PyObject_SetItem(dict.ptr(), keys[i].ptr(), children[i].build(leaves).ptr()) != 0) {
          throw py::error_already_set();
        }
      }
      return dict;
    }
    if (kind == kList) {
      py::list list(children.size());
      for (size_t i = 0; i < children.size(); ++i) list[i] = children[i].build(leaves);
      return type.is(py::type::of(list)) ? py::object(list) : type(list);
    }
    py::tuple tuple(children.size());
    for (size_t i = 0; i < children.size(); ++i) tuple[i] = children[i].build(leaves);
    auto* cls = reinterpret_cast<PyTypeObject*>(type.ptr());
    if (cls == &PyTuple_Type) return tuple;
    // as tuple.__new__(cls, fields): the class may give its own __new__ other arguments
    PyObject* made = PyTuple_Type.tp_new(cls, py::make_tuple(tuple).ptr(), nullptr);
    if (made == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
  }
};

inline void copy(char* to, const char* from, size_t num_bytes) {
  if (num_bytes == 4) {
    std::memcpy(to, from, 4);
  } else if (num_bytes == 8) {
    std::memcpy(to, from, 8);
  } else if (num_bytes != 0) {  // tensors without elements have no address, which memcpy must not be given
    std::memcpy(to, from, num_bytes);
  }
}

class RowStore {
 public:
  // rings: [(uint8 tensor [num_environments * num_slots, row_bytes], num_slots, interval, is_sparse)]; a sparse ring
  //   has only steps at multiples of interval, and of a sequence only the first one is read.
  // leaves: [(index of its ring, byte offset in the row, tensor with its dtype and shape)]
  // counts: int64 [3, num_environments]: positions, sizes, positions being written.
  RowStore(const py::list& rings, const py::list& leaves, const py::object& plan, const py::object& counts,
           int64_t max_length)
      : root_(Node::parse(plan)), counts_object_(counts), max_length_(max_length) {
    Int64s array(counts, "counts");
    if (array.tensor.ndim != 2 || array.tensor.shape[0] != 3) throw py::value_error("counts: expected [3, N]");
    num_environments_ = array.tensor.shape[1];
    positions_ = array.data;
    sizes_ = positions_ + num_environments_;
    reserved_ = sizes_ + num_environments_;
    if (max_length < 1) throw py::value_error("max_length: expected >= 1, got " + std::to_string(max_length));
    for (auto item : rings) {
      auto parts = item.cast<py::tuple>();
      DLTensor tensor;
      if (!Torch::get().view(parts[0].ptr(), &tensor)) throw py::type_error("rings: expected tensors in main memory");
      const int64_t num_slots = parts[1].cast<int64_t>(), interval = parts[2].cast<int64_t>();
      if (!(tensor.dtype == kUint8) || tensor.ndim != 2 || !is_contiguous(tensor) || num_slots < 1 || interval < 1 ||
          tensor.shape[0] != num_environments_ * num_slots || num_slots < (max_length - 1) / interval + 1) {
        throw py::value_error("rings: expected uint8 [num_environments * num_slots, row_bytes] with slots for max_length");
      }
      use_large_pages(tensor.data, tensor.shape[0] * tensor.shape[1]);
      rings_.push_back({static_cast<char*>(tensor.data), tensor.shape[1], num_slots, interval, parts[3].cast<bool>(), {},
                        py::reinterpret_borrow<py::object>(parts[0])});
    }
    for (auto item : leaves) {
      auto parts = item.cast<py::tuple>();
      DLTensor tensor;
      if (!Torch::get().view(parts[2].ptr(), &tensor)) throw py::type_error("leaves: expected tensors in main memory");
      Leaf leaf{parts[0].cast<size_t>(), parts[1].cast<size_t>(), tensor.dtype,
                {tensor.shape, tensor.shape + tensor.ndim}, tensor.dtype.bits / 8u, 1};
      for (int64_t size : leaf.shape) leaf.numel *= size;
      leaf.num_bytes *= leaf.numel;
      Ring& ring = rings_.at(leaf.ring);
      const auto row_bytes = static_cast<size_t>(ring.row_bytes);
      if (leaf.num_bytes > row_bytes || leaf.offset > row_bytes - leaf.num_bytes) {
        throw py::value_error("leaves: expected each to lie within a row of its ring");
      }
      ring.leaves.push_back(leaves_.size());
      leaves_.push_back(leaf);
    }
    if (root_.num_leaves() > leaves_.size()) throw py::value_error("plan: expected leaves that there are");
  }

  // Stores a nest [T, B, ...], or [B, ...] without has_time, behind what the environments have; env_ids is None or
  // int64 [B], none twice. Returns T, or -1 if the nest is not plain (another structure, dtype, shape or
  // device, or not contiguous), and then has done nothing.
  int64_t append(const py::handle& nest, bool has_time, const py::object& env_ids) {
    objects_.resize(leaves_.size());
    if (!root_.collect(nest.ptr(), &objects_)) return -1;
    const int outer = has_time ? 2 : 1;
    int64_t num_steps = 1, batch_size = num_environments_;
    const int64_t* envs = nullptr;
    if (!env_ids.is_none()) {
      Int64s array(env_ids, "env_ids");
      envs = array.data;
      batch_size = array.size;
      for (int64_t b = 0; b < batch_size; ++b) check_env(envs[b]);
    }
    sources_.resize(leaves_.size());
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const Leaf& leaf = leaves_[i];
      DLTensor tensor;
      if (!Torch::get().view(objects_[i], &tensor) || !(tensor.dtype == leaf.dtype)) return -1;
      if (tensor.ndim != outer + static_cast<int32_t>(leaf.shape.size())) return -1;
      if (!is_contiguous(tensor, outer)) return -1;
      for (size_t dim = 0; dim < leaf.shape.size(); ++dim) {
        if (tensor.shape[outer + dim] != leaf.shape[dim]) return -1;
      }
      if (has_time && i == 0) num_steps = tensor.shape[0];
      if (tensor.shape[outer - 1] != batch_size || (has_time && tensor.shape[0] != num_steps)) return -1;
      const int64_t item = tensor.dtype.bits / 8;
      sources_[i] = {static_cast<const char*>(tensor.data), has_time ? tensor.strides[0] * item : 0,
                     tensor.strides[outer - 1] * item};
    }
    for (int64_t b = 0; b < batch_size; ++b) {
      const int64_t env = envs ? envs[b] : b;
      reserved_[env] = positions_[env] + num_steps;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);  // a reader sees what is reserved before it sees new bytes
    const int64_t first = num_steps > max_length_ ? num_steps - max_length_ : 0;
    for (const Ring& ring : rings_) {
      for (int64_t b = 0; b < batch_size; ++b) {
        const int64_t env = envs ? envs[b] : b;
        for (int64_t t = first; t < num_steps; ++t) {
          const int64_t position = positions_[env] + t;
          if (ring.interval != 1 && position % ring.interval != 0) continue;
          char* row = ring.row(env, position);
          for (size_t i : ring.leaves) {
            const Source& source = sources_[i];
            copy(row + leaves_[i].offset, source.data + t * source.time_stride + b * source.batch_stride,
                 leaves_[i].num_bytes);
          }
        }
      }
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);  // and the position only after the bytes
    for (int64_t b = 0; b < batch_size; ++b) {
      const int64_t env = envs ? envs[b] : b;
      positions_[env] += num_steps;
      sizes_[env] = std::min(sizes_[env] + num_steps, max_length_);
    }
    return num_steps;
  }

  // Some leaves of the steps at int64 positions of any shape: a list of [*shape, ...].
  py::list read(const std::vector<size_t>& wanted, const py::object& env_ids, const py::object& positions) const {
    Int64s envs(env_ids, "env_ids"), where(positions, "positions");
    if (envs.shape() != where.shape()) throw py::value_error("env_ids and positions: expected the same shape");
    std::vector<Target> targets;
    std::vector<py::object> made = make(wanted, where.shape(), Order::kNone, &targets);
    gather(targets, envs.data, where.data, where.size, 1);
    return py::cast(made);
  }

  // Sequences of T steps that begin at positions [B]: a nest of [B, T, ...] that lie time-major in memory, or of
  // [T, B, ...]; of leaves that are stored at intervals only the first step [B, 1, ...] or [1, B, ...].
  py::object read_sequences(const py::object& env_ids, const py::object& positions, int64_t length,
                            bool time_major) const {
    Int64s envs(env_ids, "env_ids"), where(positions, "positions");
    if (envs.size != where.size) throw py::value_error("env_ids and positions: expected the same length");
    if (length < 1) throw py::value_error("length: expected >= 1, got " + std::to_string(length));
    std::vector<size_t> all(leaves_.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    std::vector<Target> targets;
    std::vector<py::object> made =
        make(all, {where.size, length}, time_major ? Order::kTimeMajor : Order::kBatchMajor, &targets);
    gather(targets, envs.data, where.data, where.size, length);
    return root_.build(made);
  }

 private:
  struct Ring {
    char* data;
    int64_t row_bytes, num_slots, interval;
    bool is_sparse;
    std::vector<size_t> leaves;
    py::object owner;
    char* row(int64_t env, int64_t position) const {
      const int64_t slot = (interval == 1 ? position : position / interval) % num_slots;
      return data + (env * num_slots + slot) * row_bytes;
    }
  };
  struct Leaf {
    size_t ring, offset;
    DLDataType dtype;
    std::vector<int64_t> shape;
    size_t num_bytes;
    int64_t numel;
  };
  struct Source {
    const char* data;
    int64_t time_stride, batch_stride;  // bytes
  };
  struct Target {
    size_t leaf;
    char* data;
  };

  // How the tensors of sequences are indexed; their memory is time-major either way.
  enum class Order { kNone, kBatchMajor, kTimeMajor };

  // Tensors for leaves with the dimensions `outer` before theirs; of sequences `outer` is [B, T].
  std::vector<py::object> make(const std::vector<size_t>& wanted, const std::vector<int64_t>& outer, Order order,
                               std::vector<Target>* targets) const {
    std::vector<py::object> made(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      const Leaf& leaf = leaves_.at(wanted[i]);
      std::vector<int64_t> shape = outer;
      if (order != Order::kNone && rings_[leaf.ring].is_sparse) shape[1] = 1;
      if (order == Order::kTimeMajor) std::swap(shape[0], shape[1]);
      shape.insert(shape.end(), leaf.shape.begin(), leaf.shape.end());
      std::vector<int64_t> strides(shape.size(), 1);
      for (size_t dim = shape.size(); dim-- > 1;) strides[dim - 1] = strides[dim] * shape[dim];
      if (order == Order::kBatchMajor) {
        strides[0] = leaf.numel;
        strides[1] = leaf.numel * shape[0];
      }
      void* data;
      made[i] = Torch::get().make(leaf.dtype, shape, strides, &data);
      targets->push_back({wanted[i], static_cast<char*>(data)});
    }
    return made;
  }

  void check_env(int64_t env) const {
    if (env >= 0 && env < num_environments_) return;
    throw py::index_error("env_ids: expected 0 to " + std::to_string(num_environments_ - 1) + ", got " +
                          std::to_string(env));
  }

  void gather(const std::vector<Target>& targets, const int64_t* envs, const int64_t* positions, int64_t count,
              int64_t length) const {
    for (int64_t b = 0; b < count; ++b) {
      check_env(envs[b]);
      if (positions[b] < 0) throw py::index_error("positions: expected >= 0, got " + std::to_string(positions[b]));
    }
    constexpr int64_t kAhead = 8;  // rows asked for before they are needed: a cache miss takes as long as copying some
    for (size_t r = 0; r < rings_.size(); ++r) {
      const Ring& ring = rings_[r];
      std::vector<Target> here;
      for (const Target& target : targets) {
        if (leaves_[target.leaf].ring == r) here.push_back(target);
      }
      if (here.empty()) continue;
      const int64_t steps = ring.is_sparse ? 1 : length;
      const int64_t lines = std::min<int64_t>(8, (ring.row_bytes * std::min<int64_t>(steps, 4) + 63) / 64 + 1);
      for (int64_t b = 0; b < count; ++b) {
        if (b + kAhead < count) {
          const char* next = ring.row(envs[b + kAhead], positions[b + kAhead]);
          for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(next + 64 * line);
        }
        for (int64_t t = 0; t < steps; ++t) {
          const char* row = ring.row(envs[b], positions[b] + t);
          for (const Target& target : here) {
            const Leaf& leaf = leaves_[target.leaf];
            copy(target.data + (t * count + b) * leaf.num_bytes, row + leaf.offset, leaf.num_bytes);
          }
        }
      }
    }
  }

  Node root_;
  py::object counts_object_;
  int64_t max_length_, num_environments_;
  int64_t *positions_, *sizes_, *reserved_;
  std::vector<Ring> rings_;
  std::vector<Leaf> leaves_;
  std::vector<PyObject*> objects_;
  std::vector<Source> sources_;
};

}  // namespace alf
