// What the native stepper takes for plain numbers, flags and arrays, and how it reads attributes of Python objects.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

namespace alf {

namespace py = pybind11;

// What objects have to be to count as plain, and the names of attributes: made once.
class PlainTypes {
 public:
  // numbers: the types of numbers that NumPy converts to float32 without a question.
  explicit PlainTypes(py::handle numbers)
      : numbers_(py::reinterpret_borrow<py::object>(numbers)),
        ndarray_(py::module_::import("numpy").attr("ndarray")),
        float64_(py::module_::import("numpy").attr("float64")),
        int64_(py::module_::import("numpy").attr("int64")),
        bool_(py::module_::import("numpy").attr("bool_")),
        numpy_false_(bool_(false)) {}

  bool is_array(PyObject* object) const { return is(object, ndarray_); }

  // Both kinds of False are singletons; another object only means that Python has a look.
  bool is_false(PyObject* object) const { return object == Py_False || object == numpy_false_.ptr(); }

  // Reads a number that float32 can hold, rounded as NumPy does; false: leave it to Python.
  bool read_float(PyObject* object, float* value) const {
    double number;
    if (PyFloat_CheckExact(object) || is(object, float64_)) {
      number = PyFloat_AS_DOUBLE(object);
    } else {
      const int known = PySet_Contains(numbers_.ptr(), reinterpret_cast<PyObject*>(Py_TYPE(object)));
      if (known < 0) throw py::error_already_set();
      if (!known) return false;
      number = PyFloat_AsDouble(object);
      if (number == -1.0 && PyErr_Occurred()) {  // an int beyond double, or np.bool_, which has no __float__
        PyErr_Clear();
        return false;
      }
      // Beyond this an integer is rounded twice on its way through double.
      if (std::fabs(number) > 9007199254740992.0) return false;
    }
    if (!(std::fabs(number) <= FLT_MAX)) return false;
    *value = static_cast<float>(number);
    return true;
  }

  bool read_int(PyObject* object, int64_t* value) const {
    if (!PyLong_CheckExact(object) && !is(object, int64_)) return false;
    *value = PyLong_AsLongLong(object);  // np.int64 through __index__
    if (*value == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    return true;
  }

  bool read_bool(PyObject* object, bool* value) const {
    if (!PyBool_Check(object) && !is(object, bool_)) return false;
    const int truth = PyObject_IsTrue(object);
    if (truth < 0) throw py::error_already_set();
    *value = truth != 0;
    return true;
  }

 private:
  static bool is(PyObject* object, const py::object& type) {
    return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type.ptr();
  }

  py::object numbers_, ndarray_, float64_, int64_, bool_, numpy_false_;
};

// Attributes of one Python object, without the __getattr__ of wrappers.
class Attribute {
 public:
  explicit Attribute(const char* name) : name_(py::reinterpret_steal<py::str>(PyUnicode_InternFromString(name))) {}

  py::object get(const py::object& owner) const {
    PyObject* value = PyObject_GenericGetAttr(owner.ptr(), name_.ptr());
    if (!value) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(value);
  }

  bool is_true(const py::object& owner) const {
    const int truth = PyObject_IsTrue(get(owner).ptr());
    if (truth < 0) throw py::error_already_set();
    return truth != 0;
  }

  void set(const py::object& owner, PyObject* value) const {
    if (PyObject_GenericSetAttr(owner.ptr(), name_.ptr(), value) < 0) throw py::error_already_set();
  }

 private:
  py::str name_;
};

}  // namespace alf
