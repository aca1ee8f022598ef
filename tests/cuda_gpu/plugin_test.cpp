// libhybrid_cuda.so as the program finds it. Machines without a driver are the case to test: the
// kernels' own tests on a GPU are in test_cuda_gpu.

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "attention/cuda_ops.h"
#include "experts/cuda_ops.h"
#include "tensor/cuda_blas.h"
#include "tensor/cuda_device.h"
#include "tensor/cuda_ops.h"
#include "tensor/cuda_plugin.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// The plugin beside this program.
std::unique_ptr<CudaPlugin> plugin() {
  std::string reason;
  auto opened = CudaPlugin::open(cuda_plugin_paths(), reason);
  REQUIRE_MESSAGE(opened != nullptr, reason);
  return opened;
}

/// Everything from byte `first` on is pointers to functions: none of them is null. How many.
template <class Table>
size_t n_functions(const Table& table, size_t first) {
  for (size_t at = first; at < sizeof(Table); at += sizeof(void*)) {
    void* function = nullptr;
    std::memcpy(&function, reinterpret_cast<const char*>(&table) + at, sizeof(function));
    CAPTURE(at);
    CHECK(function != nullptr);
  }
  return (sizeof(Table) - first) / sizeof(void*);
}

template <class Ops>
size_t n_ops(const CudaPlugin& from) {
  std::string reason;
  const Ops* ops = from.ops<Ops>(reason);
  REQUIRE_MESSAGE(ops != nullptr, reason);
  return n_functions(*ops, 2 * sizeof(uint32_t));
}

bool has_driver() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver != nullptr) dlclose(driver);
  return driver != nullptr;
}

}  // namespace

TEST_CASE("the CUDA plugin opens, and every table is complete") {
  const auto opened = plugin();
  CHECK(n_functions(opened->api(), offsetof(CudaApi, status_name)) == 20);
  CHECK(n_ops<TensorCudaOps>(*opened) == 11);
  CHECK(n_ops<ExpertsCudaOps>(*opened) == 5);
  CHECK(n_ops<AttentionCudaOps>(*opened) == 5);
  CHECK(n_ops<BlasCudaOps>(*opened) == 4);
}

TEST_CASE("the CUDA plugin opens cuBLAS when it is asked for, or says why not" *
          doctest::skip(has_driver())) {
  const auto opened = plugin();
  std::string reason;
  const auto* blas = opened->ops<BlasCudaOps>(reason);
  REQUIRE_MESSAGE(blas != nullptr, reason);
  const char* const missing = blas->why_missing();
  CHECK(blas->why_missing() == missing);
  if (missing != nullptr) {
    MESSAGE("cuBLAS is not here: " << std::string(missing));
    CHECK(std::string(missing).find("libcublas") != std::string::npos);
    return;
  }
  CudaBlas* handle = nullptr;
  const CudaStatus status = blas->open(nullptr, nullptr, 0, &handle);
  CHECK(std::string(opened->api().status_name(status)) == "cudaErrorInitializationError");
  CHECK(handle == nullptr);
}

TEST_CASE("the CUDA plugin without a driver: no GPU, and every call says why" *
          doctest::skip(has_driver())) {
  const auto opened = plugin();
  std::string reason;
  CHECK(count_cuda_devices(opened->api(), reason) == 0);
  CHECK(reason ==
        "CUDA driver version is insufficient for CUDA runtime version "
        "(cudaErrorInsufficientDriver)");
  const std::string error = error_of([&] { CudaDevice(opened->api(), 0, 1 << 20); });
  CHECK(error == "there is no CUDA0: " + reason);
  const auto* ops = opened->ops<TensorCudaOps>(reason);
  REQUIRE(ops != nullptr);
  const CudaStatus status = ops->add_rows({nullptr, 32}, {nullptr, 32}, 32, 1, nullptr);
  CHECK(std::string(opened->api().status_name(status)) == "cudaErrorInsufficientDriver");
}
