// Torch tensors seen from C++ without torch's headers: through the function table of DLPack (>= 1.3), which torch
// publishes as torch.Tensor.__dlpack_c_exchange_api__. Reading a tensor's address, shape and dtype takes some 20 ns.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace alf {

namespace py = pybind11;

// The binary interface of https://github.com/dmlc/dlpack, include/dlpack/dlpack.h, major version 1.
struct DLDevice {
  int32_t type;
  int32_t id;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
  bool operator==(const DLDataType& other) const {
    return code == other.code && bits == other.bits && lanes == other.lanes;
  }
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements
  uint64_t byte_offset;
};
struct DLVersion {
  uint32_t major;
  uint32_t minor;
};
struct DLManagedTensor {
  DLVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
  uint64_t flags;
  DLTensor tensor;
};
struct DLExchangeHeader {
  DLVersion version;
  DLExchangeHeader* previous;
};
struct DLExchange {
  DLExchangeHeader header;
  void* allocate;
  void* managed_from_object;
  int (*object_from_managed)(DLManagedTensor*, void**);
  int (*tensor_from_object)(void*, DLTensor*);
  void* current_stream;
};

constexpr int32_t kCpu = 1;
constexpr DLDataType kUint8{1, 8, 1};
constexpr DLDataType kInt64{0, 64, 1};
constexpr DLDataType kFloat64{2, 64, 1};
constexpr DLDataType kFloat32{2, 32, 1};

// The table of torch. Raises ImportError where torch has none that is understood.
class Torch {
 public:
  static const Torch& get() {
    static const Torch* torch = new Torch();  // never destroyed: it holds Python objects
    return *torch;
  }

  // False if `object` is no tensor in main memory.
  bool view(PyObject* object, DLTensor* out) const {
    if (!PyObject_TypeCheck(object, tensor_type_)) return false;
    if (api_->tensor_from_object(object, out) != 0) {
      PyErr_Clear();  // such as a sparse tensor: the caller says what it expected
      return false;
    }
    if (out->device.type != kCpu) return false;
    out->data = static_cast<char*>(out->data) + out->byte_offset;
    return true;
  }

  // A new tensor; *data is its memory, not initialised. Strides are in elements.
  py::object make(DLDataType dtype, const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                  void** data) const {
    struct Owned {
      DLManagedTensor managed;
      std::vector<int64_t> shape, strides;
      void* memory = nullptr;
    };
    size_t num_bytes = dtype.bits / 8;
    for (int64_t size : shape) num_bytes *= static_cast<size_t>(size);
    auto* owned = new Owned{{}, shape, strides, nullptr};
    if (posix_memalign(&owned->memory, 64, num_bytes ? num_bytes : 64) != 0) {
      delete owned;
      throw std::bad_alloc();
    }
    *data = owned->memory;
    auto& managed = owned->managed;
    managed.version = {1, 0};
    managed.manager_ctx = owned;
    managed.flags = 0;
    managed.deleter = [](DLManagedTensor* self) {
      auto* owner = static_cast<Owned*>(self->manager_ctx);
      std::free(owner->memory);
      delete owner;
    };
    managed.tensor = {owned->memory, {kCpu, 0},           static_cast<int32_t>(shape.size()), dtype,
                      owned->shape.data(), owned->strides.data(), 0};
    void* object = nullptr;
    if (api_->object_from_managed(&managed, &object) != 0) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
  }

  py::object make(DLDataType dtype, const std::vector<int64_t>& shape, void** data) const {
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return make(dtype, shape, strides, data);
  }

 private:
  Torch() {
    py::object type = py::module_::import("torch").attr("Tensor");
    if (!py::hasattr(type, "__dlpack_c_exchange_api__")) {
      throw py::import_error("this torch has no __dlpack_c_exchange_api__; torch >= 2.10 has");
    }
    py::object capsule = type.attr("__dlpack_c_exchange_api__");
    api_ = static_cast<const DLExchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (api_ == nullptr) throw py::error_already_set();
    if (api_->header.version.major != 1 || api_->tensor_from_object == nullptr) {
      throw py::import_error("torch offers another major version of DLPack than 1");
    }
    tensor_type_ = reinterpret_cast<PyTypeObject*>(type.release().ptr());
    capsule.release();
  }

  const DLExchange* api_;
  PyTypeObject* tensor_type_;
};

inline bool is_contiguous(const DLTensor& tensor, int32_t from_dim = 0) {
  int64_t expected = 1;
  for (int32_t dim = 0; dim < tensor.ndim; ++dim) {
    if (tensor.shape[dim] == 0) return true;
  }
  for (int32_t dim = tensor.ndim; dim-- > from_dim;) {
    if (tensor.shape[dim] != 1 && tensor.strides[dim] != expected) return false;
    expected *= tensor.shape[dim];
  }
  return true;
}

// A contiguous tensor argument of one dtype; `data` is its memory.
template <typename T>
struct Array {
  Array(const py::handle& object, DLDataType dtype, const char* name) {
    if (!Torch::get().view(object.ptr(), &tensor) || !(tensor.dtype == dtype) || !is_contiguous(tensor)) {
      throw py::type_error(std::string(name) + ": expected a contiguous tensor in main memory of the right dtype");
    }
    data = static_cast<T*>(tensor.data);
    size = 1;
    for (int32_t dim = 0; dim < tensor.ndim; ++dim) size *= tensor.shape[dim];
  }
  std::vector<int64_t> shape() const { return {tensor.shape, tensor.shape + tensor.ndim}; }
  DLTensor tensor;
  T* data;
  int64_t size;
};

struct Int64s : Array<int64_t> {
  Int64s(const py::handle& object, const char* name) : Array(object, kInt64, name) {}
};
struct Float64s : Array<double> {
  Float64s(const py::handle& object, const char* name) : Array(object, kFloat64, name) {}
};

}  // namespace alf
