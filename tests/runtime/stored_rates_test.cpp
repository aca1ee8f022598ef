// The file of rates: written whole, merged by kind, left alone where it belongs to another machine.

#include "runtime/stored_rates.h"

#include <doctest/doctest.h>

#include <fstream>

#include "runtime/plan_machine.h"
#include "tests/support/environment_variable.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

MeasuredRate rate(DType type, uint32_t n_tokens, double flop_per_s) {
  return {.type = type, .n_tokens = n_tokens, .flop_per_s = flop_per_s, .measured = "then"};
}

StoredRates rates_of(int n_threads, std::vector<MeasuredRate> rates) {
  return {rates_key(n_threads), 33.5e9, "2026-11-21T19:50Z", std::move(rates)};
}

void replace_in_file(const fs::path& path, const std::string& from, const std::string& to) {
  std::ifstream in(path);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  REQUIRE(text.find(from) != std::string::npos);
  std::ofstream(path) << text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("stored rates are found again, those of other types beside them") {
  const CacheFolder folder;
  CHECK_FALSE(find_rates(rates_key(3)).value.has_value());
  CHECK(find_rates(rates_key(3)).notice.empty());
  const StoredRates first = rates_of(3, {rate(DType::q4_k, 1, 1e9), rate(DType::q4_k, 16, 2e9)});
  const fs::path path = store_rates(first);
  CHECK(path.parent_path() == folder.dir / "hybrid-run");
  CHECK(find_rates(rates_key(3)).value == first);
  CHECK_FALSE(fs::exists(path.string() + ".part"));
  // Another number of threads has a file of its own.
  CHECK_FALSE(find_rates(rates_key(4)).value.has_value());
  // All points of a kind are replaced, other kinds stay.
  store_rates(rates_of(3, {rate(DType::q8_0, 1, 5e9)}));
  store_rates(rates_of(3, {rate(DType::q4_k, 1, 7e9)}));
  const auto all = find_rates(rates_key(3)).value;
  REQUIRE(all.has_value());
  CHECK(all->rates == std::vector{rate(DType::q4_k, 1, 7e9), rate(DType::q8_0, 1, 5e9)});
}

TEST_CASE("a file of another machine, of another version or damaged is said and not used") {
  const CacheFolder folder;
  const auto notice = [&](const std::string& from, const std::string& to) {
    const fs::path path = store_rates(rates_of(2, {rate(DType::q4_k, 1, 1e9)}));
    replace_in_file(path, from, to);
    const Cached<StoredRates> found = find_rates(rates_key(2));
    CHECK_FALSE(found.value.has_value());
    return found.notice;
  };
  CHECK(notice("\"cpu\": \"", "\"cpu\": \"Other ").find("it is of another machine (Other ") !=
        std::string::npos);
  CHECK(notice("\"version\": 1", "\"version\": 2").find("\"version\"") != std::string::npos);
  CHECK(notice("\"threads\": 2", "\"threads\": 3").find("3 threads") != std::string::npos);
  CHECK(notice("\"Q4_K\"", "\"Q4_Z\"").find("`bench` writes it anew") != std::string::npos);
  CHECK(notice("}", "").find("`bench` writes it anew") != std::string::npos);
  // And is written anew.
  store_rates(rates_of(2, {rate(DType::q8_0, 1, 1e9)}));
  CHECK(find_rates(rates_key(2)).value->rates.size() == 1);
}

TEST_CASE("what cannot be written is an error with the reason") {
  const CacheFolder folder;
  const StoredRates rates = rates_of(2, {rate(DType::q4_k, 1, 1e9)});
  folder.dir.write("hybrid-run", "a file where the folder should be");
  CHECK(error_of([&] { store_rates(rates); }).find("cannot open for writing") != std::string::npos);
  setenv("XDG_CACHE_HOME", "relative", 1);
  const std::string home = getenv("HOME") != nullptr ? getenv("HOME") : "";
  unsetenv("HOME");
  CHECK(error_of([&] { store_rates(rates); }).find("set XDG_CACHE_HOME or HOME") !=
        std::string::npos);
  if (!home.empty()) setenv("HOME", home.c_str(), 1);
}

TEST_CASE("a plan takes single tokens from -t's rates and micro-batches from -tb's") {
  const CacheFolder folder;
  store_rates(rates_of(2, {rate(DType::q4_k, 1, 1e9), rate(DType::q4_k, 16, 2e9)}));
  store_rates(rates_of(4, {rate(DType::q4_k, 1, 3e9), rate(DType::q4_k, 16, 4e9)}));
  const auto speed = [](int n_threads, int n_threads_batch) {
    return with_stored_rates(this_machine(), n_threads, n_threads_batch).devices.front().speed;
  };
  CHECK(speed(2, 4).rates.rates() ==
        std::vector{rate(DType::q4_k, 1, 1e9), rate(DType::q4_k, 16, 4e9)});
  CHECK(speed(4, 4).rates.rates().front() == rate(DType::q4_k, 1, 3e9));
  CHECK(speed(2, 2).read_rate == 33.5e9);
  CHECK(speed(3, 3).rates.empty());
  CHECK(speed(3, 3).read_rate == kDefaultCpuReadRate);
  const PlanMachine both = with_stored_rates(this_machine(), 2, 4);
  CHECK(both.basis.find("2026-11-21T19:50Z with 2 threads") != std::string::npos);
  CHECK(both.basis.find("for prefill measured on this machine at 2026-11-21T19:50Z with 4") !=
        std::string::npos);
  CHECK(both.notices.empty());
  replace_in_file(rates_path(rates_key(2)), "\"version\": 1", "\"version\": 9");
  CHECK(with_stored_rates(this_machine(), 2, 2).notices.size() == 1);
}
