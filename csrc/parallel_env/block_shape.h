// What native code needs to know of an array [B, ...] or [R, B, ...] whose rows it reads and writes.
#pragma once

#include <pybind11/numpy.h>

#include <stdexcept>
#include <string>

namespace alf {

// Returns the bytes of one environment. The array must be contiguous behind its ring axis; ring rows may be padded.
inline pybind11::ssize_t bytes_of_row(const pybind11::array& array, bool has_ring, const char* owner) {
  const pybind11::ssize_t batch_axis = has_ring ? 1 : 0;
  pybind11::ssize_t bytes = array.itemsize();
  bool fits = array.ndim() > batch_axis;
  for (pybind11::ssize_t axis = array.ndim() - 1; fits && axis >= batch_axis; --axis) {
    fits = array.size() == 0 || array.shape(axis) == 1 || array.strides(axis) == bytes;
    if (axis > batch_axis) bytes *= array.shape(axis);
  }
  if (!fits) throw std::invalid_argument(std::string(owner) + ": expected contiguous arrays with a batch axis");
  return bytes;
}

}  // namespace alf
