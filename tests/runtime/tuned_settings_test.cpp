// The file of tuned settings: found again for the same model and machine, and for no other.

#include "runtime/tuned_settings.h"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/support/environment_variable.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

TunedSettings settings() {
  TunedSettings s;
  s.key = {"a processor", 32, 2, "distribute", "", "amx", 0x0123456789abcdef};
  s.model_name = "a model";
  s.measured = "2026-11-21T19:50Z";
  s.n_threads = 24;
  s.n_threads_batch = 32;
  s.n_ubatch = 1024;
  s.decode_tps = 21.25;
  s.prefill_tps = 310.5;
  return s;
}

}  // namespace

TEST_CASE("tuned settings are found again, for the same key only") {
  const CacheFolder folder;
  const TunedSettings s = settings();
  CHECK_FALSE(find_tuned(s.key).value);
  CHECK(find_tuned(s.key).notice.empty());
  const fs::path path = store_tuned(s);
  CHECK(path == folder.dir / "hybrid-run" / "tuned-0123456789abcdef.json");
  CHECK(find_tuned(s.key).value == s);
  CHECK_FALSE(fs::exists(path.string() + ".part"));

  const auto refused = [&](auto&& change) {
    TunedKey key = s.key;
    change(key);
    const Cached<TunedSettings> found = find_tuned(key);
    return !found.value && found.notice.find("is not used: it was tuned for") != std::string::npos;
  };
  CHECK(refused([](TunedKey& key) { key.cpu = "another"; }));
  CHECK(refused([](TunedKey& key) { key.n_processors = 16; }));
  CHECK(refused([](TunedKey& key) { key.n_nodes = 1; }));
  CHECK(refused([](TunedKey& key) { key.numa = "isolate"; }));
  CHECK(refused([](TunedKey& key) { key.devices = "cuda:0"; }));
  CHECK(refused([](TunedKey& key) { key.isa = "avx2"; }));
  TunedKey other = s.key;
  other.model = 1;
  CHECK_FALSE(find_tuned(other).value);
  CHECK(find_tuned(other).notice.empty());
}

TEST_CASE("a damaged file of tuned settings is told, and written anew") {
  const CacheFolder folder;
  const TunedSettings s = settings();
  const fs::path path = store_tuned(s);
  for (const char* text : {"", "{", "[]", "{\"version\": 2}", "{\"version\": 1}",
                           "{\"version\": 1, \"threads\": -3}"}) {
    CAPTURE(text);
    std::ofstream(path) << text;
    const Cached<TunedSettings> found = find_tuned(s.key);
    CHECK_FALSE(found.value);
    CHECK(found.notice.find("`tune` writes it anew") != std::string::npos);
    CHECK(found.notice.find('\n') == std::string::npos);
  }
  store_tuned(s);
  CHECK(find_tuned(s.key).value == s);
}

TEST_CASE("models of the same tensors share settings, whatever their bytes") {
  const TempDir dir;
  const auto hash = [&](const char* name, const std::string& bytes) {
    return tensors_hash(GgufFile::open(dir.write(name, bytes)));
  };
  const std::string bytes = tiny_model().bytes();
  std::string tuned = bytes;
  tuned.back() ^= 1;  // a weight
  CHECK(hash("a.gguf", bytes) == hash("b.gguf", tuned));
  CHECK(hash("a.gguf", bytes) != hash("c.gguf", tiny_model({.q_lora = 24}).bytes()));
  CHECK(hash("a.gguf", bytes) != hash("d.gguf", tiny_model({.quantised = true}).bytes()));
}
