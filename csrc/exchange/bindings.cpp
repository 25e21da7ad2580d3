// Python module alf._exchange: sums and copies among the processes of one machine that train together.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <sys/mman.h>

#include "exchange.h"

namespace py = pybind11;

namespace {

constexpr double kSliceSeconds = 0.1;  // of waiting, after which signals are heeded and others are looked after

class Member {
 public:
  Member(int descriptor, int64_t rank, int64_t num_members, int64_t capacity, double spin_seconds,
         double timeout_seconds)
      : bytes_(alf::Exchange::bytes(num_members, capacity)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)),
        rank_(rank),
        timeout_seconds_(timeout_seconds),
        exchange_(checked(memory_), rank, num_members, capacity, spin_seconds) {}
  ~Member() { munmap(memory_, bytes_); }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  template <typename T>
  void sum(py::array_t<T, py::array::c_style>& numbers) {
    T* data = numbers.mutable_data();
    const int64_t count = numbers.size();
    const int64_t most = exchange_.capacity() / static_cast<int64_t>(sizeof(T));
    for (int64_t begin = 0; begin < count; begin += most) {
      const int64_t size = std::min(most, count - begin);
      exchange_.put(data + begin, size * sizeof(T));
      meet();
      exchange_.add_up<T>(size);
      meet();
      exchange_.take_result(data + begin, size * sizeof(T));
    }
  }

  void copy_from(int64_t root, py::array_t<uint8_t, py::array::c_style>& bytes) {
    if (root < 0 || root >= exchange_.num_members()) throw std::out_of_range("no such rank");
    uint8_t* data = bytes.mutable_data();
    const int64_t size = bytes.size();
    for (int64_t begin = 0; begin < size; begin += exchange_.capacity()) {
      const int64_t part = std::min(exchange_.capacity(), size - begin);
      meet();  // all have read what was there before
      if (rank_ == root) exchange_.put_result(data + begin, part);
      meet();
      if (rank_ != root) exchange_.take_result(data + begin, part);
    }
  }

 private:
  static void* checked(void* memory) {
    if (memory == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
    return memory;
  }

  // Waits until all have come here.
  void meet() {
    exchange_.arrive();
    double waited = 0;
    for (;;) {
      int64_t missing;
      {
        py::gil_scoped_release release;
        missing = exchange_.wait(kSliceSeconds);
      }
      if (missing < 0) return;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      const int32_t process = exchange_.process_of(missing);
      if (process != 0 && kill(process, 0) != 0 && errno == ESRCH) {
        throw std::runtime_error("process " + std::to_string(missing) + " has ended");
      }
      waited += kSliceSeconds;
      if (waited >= timeout_seconds_) {
        throw std::runtime_error("process " + std::to_string(missing) + " did not come within " +
                                 std::to_string(static_cast<int64_t>(timeout_seconds_)) + " s");
      }
    }
  }

  size_t bytes_;
  void* memory_;
  int64_t rank_;
  double timeout_seconds_;
  alf::Exchange exchange_;
};

}  // namespace

PYBIND11_MODULE(_exchange, module) {
  module.doc() = "Sums and copies among the processes of one machine, through memory that they share.";
  module.def("num_bytes", &alf::Exchange::bytes, py::arg("num_members"), py::arg("capacity"),
             "Bytes of the shared memory.");
  py::class_<Member>(module, "Member")
      .def(py::init<int, int64_t, int64_t, int64_t, double, double>(), py::arg("descriptor"), py::arg("rank"),
           py::arg("num_members"), py::arg("capacity"), py::arg("spin_seconds"), py::arg("timeout_seconds"))
      .def("sum", &Member::sum<float>, py::arg("numbers").noconvert())
      .def("sum", &Member::sum<double>, py::arg("numbers").noconvert())
      .def("copy_from", &Member::copy_from, py::arg("root"), py::arg("bytes").noconvert());
}
