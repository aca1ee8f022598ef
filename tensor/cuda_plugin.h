#pragma once
// The CUDA plugin: a shared library of its own, libhybrid_cuda.so, that holds all of CUDA's runtime
// and every kernel. It is looked for when a GPU is asked for; a program without it, and one on a
// machine without a driver, run as before and say so when asked.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tensor/cuda_api.h"

namespace hybrid {

class CudaPlugin {
 public:
  /// Opens the first of `paths` that exists. Null where none does, where it cannot be opened, and
  /// where it is of another version; why is then in `reason`.
  static std::unique_ptr<CudaPlugin> open(const std::vector<std::filesystem::path>& paths,
                                          std::string& reason);
  ~CudaPlugin();
  CudaPlugin(const CudaPlugin&) = delete;
  CudaPlugin& operator=(const CudaPlugin&) = delete;

  const CudaApi& api() const { return *api_; }
  const std::filesystem::path& path() const { return path_; }

  /// A layer's table of launch functions (TensorCudaOps and its like), valid as long as this. Null
  /// where the plugin has none, or one of another version; why is then in `reason`.
  template <class Ops>
  const Ops* ops(std::string& reason) const {
    const auto function = reinterpret_cast<const Ops* (*)()>(symbol(Ops::kSymbol));
    const Ops* ops = function == nullptr ? nullptr : function();
    if (ops != nullptr && ops->version == Ops::kVersion && ops->n_bytes == sizeof(Ops)) return ops;
    reason = of_another_version(path_);
    return nullptr;
  }

  /// A function by its name; null where there is none.
  void* symbol(const char* name) const;

 private:
  static std::string of_another_version(const std::filesystem::path& path);
  CudaPlugin(void* library, const CudaApi& api, std::filesystem::path path)
      : library_(library), api_(&api), path_(std::move(path)) {}

  void* library_;
  const CudaApi* api_;
  std::filesystem::path path_;
};

/// Where the plugin lies: beside the program, and in ../lib/hybrid-run as installed.
std::vector<std::filesystem::path> cuda_plugin_paths();

}  // namespace hybrid
