#include "runtime/cuda_tables.h"

#include <optional>

#include "tensor/cuda_plugin.h"

namespace hybrid {
namespace {

const CudaTables* tables_of_tests = nullptr;

struct OpenedPlugin {
  std::string reason;
  std::unique_ptr<CudaPlugin> plugin;
  std::optional<CudaTables> tables;

  OpenedPlugin() : plugin(CudaPlugin::open(cuda_plugin_paths(), reason)) {
    if (plugin == nullptr) return;
    const auto* tensor = plugin->ops<TensorCudaOps>(reason);
    const auto* experts = plugin->ops<ExpertsCudaOps>(reason);
    const auto* attention = plugin->ops<AttentionCudaOps>(reason);
    const auto* blas = plugin->ops<BlasCudaOps>(reason);
    if (tensor == nullptr || experts == nullptr || attention == nullptr || blas == nullptr) return;
    tables.emplace(CudaTables{plugin->api(), *tensor, *experts, *attention, *blas});
  }
};

}  // namespace

const CudaTables* cuda_tables(std::string& reason) {
  if (tables_of_tests != nullptr) return tables_of_tests;
  // Never closed: CUDA's runtime has work of its own at the end of the program.
  static const OpenedPlugin* const opened = new OpenedPlugin;
  reason = opened->reason;
  return opened->tables ? &*opened->tables : nullptr;
}

void set_cuda_tables(const CudaTables* tables) { tables_of_tests = tables; }

}  // namespace hybrid
