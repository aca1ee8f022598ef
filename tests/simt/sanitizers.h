#pragma once
// Which sanitizer the build has, and what the engine, which is built without it, says to it.

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN_POISON(p, n) __asan_poison_memory_region(p, n)
#define SIMT_ASAN_UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define SIMT_ASAN_POISON(p, n) static_cast<void>(0)
#define SIMT_ASAN_UNPOISON(p, n) static_cast<void>(0)
#endif

#ifdef SIMT_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void* p, unsigned long n);
extern "C" void __tsan_write_range(void* p, unsigned long n);
#define SIMT_TSAN_READ(p, n) __tsan_read_range(const_cast<void*>(p), n)
#define SIMT_TSAN_WRITE(p, n) __tsan_write_range(p, n)
#define SIMT_TSAN_RELEASE(p) __tsan_release(p)
#define SIMT_TSAN_ACQUIRE(p) __tsan_acquire(p)
#else
#define SIMT_TSAN_READ(p, n) static_cast<void>(0)
#define SIMT_TSAN_WRITE(p, n) static_cast<void>(0)
#define SIMT_TSAN_RELEASE(p) static_cast<void>(0)
#define SIMT_TSAN_ACQUIRE(p) static_cast<void>(0)
#endif
