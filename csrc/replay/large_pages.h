// Memory in large pages, where the system has them: what is accessed at random misses the table of pages less.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdlib>
#include <new>

namespace alf {

// Asks for pages of 2 MiB, so that random accesses to large memory do not each miss the table of pages. They are taken when
// they are first written, like small ones.
inline void use_large_pages(void* data, size_t num_bytes) {
#if defined(__linux__)
  constexpr size_t kPage = size_t{1} << 21;
  const size_t begin = (reinterpret_cast<size_t>(data) + kPage - 1) & ~(kPage - 1);
  const size_t end = (reinterpret_cast<size_t>(data) + num_bytes) & ~(kPage - 1);
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish: failing is fine
#else
  (void)data, (void)num_bytes;
#endif
}

// Allocates what containers hold in such memory.
template <typename T>
struct LargePages {
  using value_type = T;
  LargePages() = default;
  template <typename U>
  LargePages(const LargePages<U>&) {}

  T* allocate(size_t count) {
    void* memory = nullptr;
    const size_t num_bytes = count * sizeof(T);
    if (posix_memalign(&memory, num_bytes >= (size_t{1} << 21) ? size_t{1} << 21 : 64, num_bytes) != 0) {
      throw std::bad_alloc();
    }
    use_large_pages(memory, num_bytes);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { std::free(memory); }
  bool operator==(const LargePages&) const { return true; }
  bool operator!=(const LargePages&) const { return false; }
};

}  // namespace alf
