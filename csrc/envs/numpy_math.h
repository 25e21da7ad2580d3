// The mathematics of Gymnasium's environments to the last bit: sin and cos as NumPy computes them, powers as libm does.
//
// NumPy's sine is not always that of libm: for float32 it never is, for float64 it depends on version and processor. So
// the inner loops of numpy.sin and numpy.cos are called themselves; they need no Python objects and no GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <string>

namespace alf {

namespace py = pybind11;

// The inner loop of a NumPy function of one number, for one type of numbers.
template <typename T>
class NumpyLoop {
 public:
  explicit NumpyLoop(const char* name) {
    function_ = py::module_::import("numpy").attr(name);
    const Ufunc* ufunc = reinterpret_cast<const Ufunc*>(function_.ptr());
    if (ufunc->num_inputs == 1 && ufunc->num_outputs == 1 && ufunc->name == std::string(name)) {
      for (int i = 0; i < ufunc->num_types; ++i) {
        if (ufunc->types[2 * i] != kType || ufunc->types[2 * i + 1] != kType) continue;
        loop_ = ufunc->functions[i];
        data_ = ufunc->data[i];
      }
    }
    if (loop_ == nullptr) throw py::import_error("numpy." + std::string(name) + " has no inner loop that is known");
  }

  T operator()(T value) const {
    T result;
    char* args[2] = {reinterpret_cast<char*>(&value), reinterpret_cast<char*>(&result)};
    const Py_ssize_t size = 1, strides[2] = {sizeof(T), sizeof(T)};
    loop_(args, &size, strides, data_);
    return result;
  }

 private:
  static constexpr char kType = sizeof(T) == 8 ? 12 : 11;  // NPY_DOUBLE, NPY_FLOAT
  using Loop = void (*)(char** args, const Py_ssize_t* sizes, const Py_ssize_t* strides, void* data);

  // The beginning of PyUFuncObject, public in numpy/ufuncobject.h and the same in NumPy 1 and 2.
  struct Ufunc {
    PyObject_HEAD
    int num_inputs, num_outputs, num_args, identity;
    Loop* functions;
    void* const* data;
    int num_types, reserved;
    const char* name;
    const char* types;
  };

  py::object function_;
  Loop loop_ = nullptr;
  void* data_ = nullptr;
};

struct NumpyMath {
  NumpyLoop<double> sin{"sin"}, cos{"cos"};
  NumpyLoop<float> sin_float32{"sin"}, cos_float32{"cos"};
};

// x ** 2 of Python and of NumPy's scalars is pow(x, 2.0), which is not always x * x; a compiler that sees the 2 would
// make it that.
inline double squared_by_pow(double x) {
  static double (*const volatile power)(double, double) = std::pow;
  return power(x, 2.0);
}

inline float squared_by_pow(float x) {
  static float (*const volatile power)(float, float) = std::pow;
  return power(x, 2.0f);
}

constexpr double kPi = 3.141592653589793;

inline double clip(double x, double low, double high) { return std::fmin(std::fmax(x, low), high); }

}  // namespace alf
