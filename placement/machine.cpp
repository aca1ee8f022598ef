#include "placement/machine.h"

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "placement/json_file.h"

namespace hybrid {
namespace {

constexpr double kGiga = 1e9, kTera = 1e12;
constexpr double kMaxRate = 1e6;  // 1 PB/s, 1 EFLOP/s: more is a rate in another unit
constexpr uint64_t kMaxSockets = 64, kMaxCores = 65536;
constexpr size_t kMaxNodes = 1024;

std::string read_name(const JsonNode& node) {
  const std::string& name = node.string();
  if (name.empty()) node.fail_expected("a name");
  return name;
}

std::optional<double> read_rate(const JsonNode& object, std::string_view key, double unit) {
  const JsonNode* node = object.find(key);
  return node == nullptr ? std::nullopt : std::optional(node->positive_number(kMaxRate) * unit);
}

SimdLevel read_isa(const JsonNode& node) {
  const auto level = find_simd_level(node.string());
  if (level) return *level;
  std::vector<std::string> names;
  for (const SimdLevel l :
       {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512_vnni, SimdLevel::amx}) {
    names.emplace_back(name_of(l));
  }
  node.fail_expected(join(names, ", "));
}

/// The memory of each node. Their sum must be the machine's, within a rounded digit.
std::vector<uint64_t> read_nodes(const JsonNode& node, uint64_t memory_bytes) {
  std::vector<uint64_t> nodes;
  for (const JsonNode* element : node.elements()) nodes.push_back(element->gib_as_bytes());
  if (nodes.empty() || nodes.size() > kMaxNodes) {
    fail("{}: expected the memory of 1 to {} nodes, found {}; where they are unknown, leave it out",
         node.where(), kMaxNodes, nodes.size());
  }
  const double memory = static_cast<double>(memory_bytes);
  const double sum = std::accumulate(nodes.begin(), nodes.end(), 0.0);
  if (std::abs(sum - memory) > 0.01 * memory) {
    fail("{}: expected nodes that hold the machine's {} together, found {}", node.where(),
         format_bytes(memory_bytes), format_bytes(static_cast<uint64_t>(sum)));
  }
  return nodes;
}

/// How fast nodes read: takes the place of the whole machine's bandwidth and of measured rates.
void read_node_bandwidth(const JsonNode& node, MachineCpu& cpu) {
  const JsonNode* nodes = node.find("node_bandwidth_gbs");
  const JsonNode* remote = node.find("remote_bandwidth_gbs");
  if (nodes == nullptr && remote == nullptr) return;
  if (nodes == nullptr) fail("{}: expected node_bandwidth_gbs beside it", remote->where());
  if (remote == nullptr) fail("{}: expected remote_bandwidth_gbs beside it", nodes->where());
  for (const char* other : {"bandwidth_gbs", "rates"}) {
    if (node.find(other) == nullptr) continue;
    fail("{}: expected no {} beside it: one of them says how fast memory is", nodes->where(),
         other);
  }
  for (const JsonNode* element : nodes->elements()) {
    cpu.node_bandwidth_bytes_per_s.push_back(element->positive_number(kMaxRate) * kGiga);
  }
  const size_t n = cpu.node_bandwidth_bytes_per_s.size(), n_memories = cpu.node_memory_bytes.size();
  if (n == 0 || n > kMaxNodes || (n_memories > 0 && n != n_memories)) {
    fail("{}: expected a rate of each node, found {}", nodes->where(), n);
  }
  cpu.remote_bytes_per_s = remote->positive_number(kMaxRate) * kGiga;
}

MachineCpu read_cpu(const JsonNode& node) {
  constexpr std::string_view kKeys[] = {"sockets",
                                        "cores",
                                        "isa",
                                        "memory_gib",
                                        "memory_bytes",
                                        "node_memory_gib",
                                        "bandwidth_gbs",
                                        "node_bandwidth_gbs",
                                        "remote_bandwidth_gbs",
                                        "prefill_tflops",
                                        "disk_gbs",
                                        "rates"};
  node.expect_object(kKeys);
  MachineCpu cpu;
  cpu.n_sockets = static_cast<uint32_t>(node.member("sockets").whole_number(1, kMaxSockets));
  cpu.n_cores = static_cast<uint32_t>(node.member("cores").whole_number(cpu.n_sockets, kMaxCores));
  cpu.isa = read_isa(node.member("isa"));
  cpu.memory_bytes = node.size_bytes("memory");
  if (const JsonNode* nodes = node.find("node_memory_gib")) {
    cpu.node_memory_bytes = read_nodes(*nodes, cpu.memory_bytes);
  }
  cpu.bandwidth_bytes_per_s = read_rate(node, "bandwidth_gbs", kGiga);
  read_node_bandwidth(node, cpu);
  cpu.prefill_flop_per_s = read_rate(node, "prefill_tflops", kTera);
  cpu.disk_bytes_per_s = read_rate(node, "disk_gbs", kGiga);
  if (const JsonNode* rates = node.find("rates")) cpu.rates = read_rates(*rates);
  return cpu;
}

MachineGpu read_gpu(const JsonNode& node) {
  constexpr std::string_view kKeys[] = {"name",   "memory_gib", "memory_bytes", "bandwidth_gbs",
                                        "tflops", "pcie_gbs",   "types"};
  node.expect_object(kKeys);
  MachineGpu gpu;
  gpu.name = read_name(node.member("name"));
  gpu.memory_bytes = node.size_bytes("memory");
  gpu.bandwidth_bytes_per_s = read_rate(node, "bandwidth_gbs", kGiga);
  gpu.flop_per_s = read_rate(node, "tflops", kTera);
  gpu.pcie_bytes_per_s = read_rate(node, "pcie_gbs", kGiga);
  if (const JsonNode* types = node.find("types")) {
    for (const JsonNode* type : types->elements()) gpu.types.push_back(read_type(*type));
    if (gpu.types.empty()) types->fail_expected("at least one type; without the key it has all");
  }
  return gpu;
}

}  // namespace

MachineSpec read_machine(const std::string& path) {
  constexpr std::string_view kKeys[] = {"name", "cpu", "gpus"};
  const JsonFile file(path, "the machine file");
  const JsonNode& root = file.root();
  root.expect_object(kKeys);
  MachineSpec machine;
  machine.name = read_name(root.member("name"));
  machine.cpu = read_cpu(root.member("cpu"));
  if (const JsonNode* gpus = root.find("gpus")) {
    for (const JsonNode* gpu : gpus->elements()) machine.gpus.push_back(read_gpu(*gpu));
  }
  return machine;
}

}  // namespace hybrid
