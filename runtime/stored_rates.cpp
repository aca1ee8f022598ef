#include "runtime/stored_rates.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "numa/cpu_model.h"
#include "placement/json_file.h"
#include "runtime/user_cache.h"

namespace hybrid {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kRatesVersion = 1;
constexpr uint64_t kMostThreads = 65535, kMostNodes = 1024;
constexpr double kGiga = 1e9, kMaxGbs = 1e6;

StoredRates read_rates_file(const fs::path& path) {
  constexpr std::string_view kKeys[] = {"version", "cpu",           "isa",      "threads",
                                        "nodes",   "bandwidth_gbs", "measured", "rates"};
  const JsonFile file(path.string(), "the file of rates");
  const JsonNode& root = file.root();
  root.expect_object();
  root.member("version").whole_number(kRatesVersion, kRatesVersion);
  root.expect_object(kKeys);
  StoredRates stored;
  stored.key.cpu = root.member("cpu").string();
  const JsonNode& isa = root.member("isa");
  const auto level = find_simd_level(isa.string());
  if (!level) isa.fail_expected("a level of --isa");
  stored.key.isa = *level;
  stored.key.n_threads =
      static_cast<uint32_t>(root.member("threads").whole_number(1, kMostThreads));
  stored.key.n_nodes = static_cast<uint32_t>(root.member("nodes").whole_number(1, kMostNodes));
  stored.bandwidth_bytes_per_s = root.member("bandwidth_gbs").positive_number(kMaxGbs) * kGiga;
  stored.measured = root.member("measured").string();
  stored.rates = read_rates(root.member("rates"));
  return stored;
}

std::string key_text(const RatesKey& key) {
  return fmt::format("{}, {}, {}, {}", key.cpu, plural(key.n_nodes, "node"),
                     plural(key.n_threads, "thread"), name_of(key.isa));
}

std::string file_name(const RatesKey& key) {
  return fmt::format("rates-{}-{}.json", name_of(key.isa), key.n_threads);
}

}  // namespace

RatesKey rates_key(int n_threads) {
  return {printable(cpu_model_name()), simd_level(), static_cast<uint32_t>(n_threads),
          n_numa_nodes()};
}

std::string time_now() {
  return fmt::format("{:%Y-%m-%dT%H:%MZ}", fmt::gmtime(std::time(nullptr)));
}

fs::path rates_path(const RatesKey& key) { return user_cache_path(file_name(key)); }

Cached<StoredRates> find_rates(const RatesKey& key) {
  return find_in_user_cache(file_name(key), "bench", read_rates_file,
                            [&](const StoredRates& stored) {
                              if (stored.key == key) return std::string();
                              return fmt::format("it is of another machine ({}; this is {})",
                                                 key_text(stored.key), key_text(key));
                            });
}

fs::path store_rates(const StoredRates& rates) {
  std::vector<MeasuredRate> all = rates.rates;
  if (const auto old = find_rates(rates.key).value) {
    const RateTable fresh(rates.rates);
    for (const MeasuredRate& r : old->rates) {
      if (!fresh.has(r.op, r.type, r.packed)) all.push_back(r);
    }
  }
  const nlohmann::ordered_json json = {
      {"version", kRatesVersion},
      {"cpu", rates.key.cpu},
      {"isa", name_of(rates.key.isa)},
      {"threads", rates.key.n_threads},
      {"nodes", rates.key.n_nodes},
      {"bandwidth_gbs", std::round(rates.bandwidth_bytes_per_s / 1e7) / 100},
      {"measured", rates.measured},
      {"rates", rates_json(all)}};
  return store_in_user_cache(file_name(rates.key), json);
}

}  // namespace hybrid
