#include "runtime/tuned_settings.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "base/hash.h"
#include "base/text.h"
#include "placement/json_file.h"
#include "runtime/user_cache.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kTunedVersion = 1;
constexpr uint64_t kMostThreads = 4096, kMostProcessors = 65535, kMostNodes = 1024;
constexpr uint64_t kMostTokens = uint64_t{1} << 30;
constexpr double kMostTps = 1e9;

uint32_t count(const JsonNode& root, std::string_view name, uint64_t most) {
  return static_cast<uint32_t>(root.member(name).whole_number(1, most));
}

TunedSettings read_tuned_file(const fs::path& path) {
  constexpr std::string_view kKeys[] = {"version",    "cpu",        "processors",    "nodes",
                                        "numa",       "devices",    "isa",           "model",
                                        "measured",   "threads",    "threads-batch", "ubatch-size",
                                        "decode_tps", "prefill_tps"};
  const JsonFile file(path.string(), "the file of tuned settings");
  const JsonNode& root = file.root();
  root.expect_object();
  root.member("version").whole_number(kTunedVersion, kTunedVersion);
  root.expect_object(kKeys);
  TunedSettings s;
  s.key.cpu = root.member("cpu").string();
  s.key.n_processors = count(root, "processors", kMostProcessors);
  s.key.n_nodes = count(root, "nodes", kMostNodes);
  s.key.numa = root.member("numa").string();
  s.key.devices = root.member("devices").string();
  s.key.isa = root.member("isa").string();
  s.model_name = root.member("model").string();
  s.measured = root.member("measured").string();
  s.n_threads = count(root, "threads", kMostThreads);
  s.n_threads_batch = count(root, "threads-batch", kMostThreads);
  s.n_ubatch = count(root, "ubatch-size", kMostTokens);
  s.decode_tps = root.member("decode_tps").positive_number(kMostTps);
  s.prefill_tps = root.member("prefill_tps").positive_number(kMostTps);
  return s;
}

std::string key_text(const TunedKey& key) {
  return fmt::format("{}, {}, {}, --numa {}, {}, {}", key.cpu,
                     plural(key.n_processors, "processor"), plural(key.n_nodes, "node"), key.numa,
                     key.isa, key.devices.empty() ? "no devices" : key.devices);
}

std::string file_name(uint64_t model) { return fmt::format("tuned-{:016x}.json", model); }

}  // namespace

uint64_t tensors_hash(const GgufFile& model) {
  std::string text;
  for (const GgufTensor& tensor : model.tensors()) {
    text += fmt::format("{}\t{}\t{}\n", tensor.info.name, name_of(tensor.info.type),
                        fmt::join(tensor.info.ne, ","));
  }
  return hash_bytes(std::as_bytes(std::span(text)), kTunedVersion);
}

fs::path tuned_path(uint64_t model) { return user_cache_path(file_name(model)); }

Cached<TunedSettings> find_tuned(const TunedKey& key) {
  const auto read = [&](const fs::path& path) {
    TunedSettings settings = read_tuned_file(path);
    settings.key.model = key.model;  // the name of the file
    return settings;
  };
  return find_in_user_cache(file_name(key.model), "tune", read, [&](const TunedSettings& settings) {
    if (settings.key == key) return std::string();
    return fmt::format("it was tuned for {}; this is {}", key_text(settings.key), key_text(key));
  });
}

fs::path store_tuned(const TunedSettings& s) {
  const auto rounded = [](double tps) { return std::round(tps * 100) / 100; };
  const nlohmann::ordered_json json = {{"version", kTunedVersion},
                                       {"cpu", s.key.cpu},
                                       {"processors", s.key.n_processors},
                                       {"nodes", s.key.n_nodes},
                                       {"numa", s.key.numa},
                                       {"devices", s.key.devices},
                                       {"isa", s.key.isa},
                                       {"model", printable(s.model_name)},
                                       {"measured", s.measured},
                                       {"threads", s.n_threads},
                                       {"threads-batch", s.n_threads_batch},
                                       {"ubatch-size", s.n_ubatch},
                                       {"decode_tps", rounded(s.decode_tps)},
                                       {"prefill_tps", rounded(s.prefill_tps)}};
  return store_in_user_cache(file_name(s.key.model), json);
}

}  // namespace hybrid
