#include "tensor/cuda_plugin.h"

#include <dlfcn.h>

#include <utility>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr const char* kFileName = "libhybrid_cuda.so";

std::string last_dl_error() {
  const char* text = dlerror();
  return text == nullptr ? "unknown error" : printable(text, 300);
}

}  // namespace

std::vector<std::filesystem::path> cuda_plugin_paths() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const std::filesystem::path folder = program.parent_path();
  return {folder / kFileName, folder.parent_path() / "lib" / "hybrid-run" / kFileName};
}

std::unique_ptr<CudaPlugin> CudaPlugin::open(const std::vector<std::filesystem::path>& paths,
                                             std::string& reason) {
  std::error_code error;
  for (const std::filesystem::path& path : paths) {
    if (!std::filesystem::exists(path, error)) continue;
    // Once opened it stays: CUDA's runtime, which is inside, has work of its own until the end.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == nullptr) {
      reason = fmt::format("{} cannot be opened: {}", printable(path.string()), last_dl_error());
      return nullptr;
    }
    const auto api_of = reinterpret_cast<CudaApiFunction>(dlsym(library, kCudaApiSymbol));
    const CudaApi* api = api_of == nullptr ? nullptr : api_of();
    if (api == nullptr || api->version != kCudaApiVersion || api->n_bytes != sizeof(CudaApi)) {
      reason = of_another_version(path);
      dlclose(library);
      return nullptr;
    }
    return std::unique_ptr<CudaPlugin>(new CudaPlugin(library, *api, path));
  }
  reason = fmt::format(
      "this program was built without CUDA ({} is not beside it); build the preset release-cuda",
      kFileName);
  return nullptr;
}

CudaPlugin::~CudaPlugin() { dlclose(library_); }

std::string CudaPlugin::of_another_version(const std::filesystem::path& path) {
  return fmt::format("{} is of another version of this program: build both together",
                     printable(path.string()));
}

void* CudaPlugin::symbol(const char* name) const { return dlsym(library_, name); }

}  // namespace hybrid
