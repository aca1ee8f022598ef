#include "runtime/panel_cache.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "tests/support/aligned.h"
#include "tests/support/environment_variable.h"
#include "tests/support/expect_error.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/golden.h"
#include "tests/support/random_weights.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;
namespace fs = std::filesystem;
using State = PanelCacheStatus::State;

namespace {

std::string bytes_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A model of three matrices, one of them a stack, with last panels that are not full.
GgufBuilder model_gguf(uint64_t n_rows, uint32_t seed) {
  const auto data = [&](DType type, uint64_t n) { return bytes_of(random_weights(type, n, seed)); };
  GgufBuilder gguf;
  gguf.add("general.architecture", "deepseek2");
  gguf.add_tensor("norm", DType::f32, {8});
  gguf.add_tensor("a", DType::q8_0, {64, n_rows}, data(DType::q8_0, 64 * n_rows));
  gguf.add_tensor("b", DType::q4_k, {256, 20, 3}, data(DType::q4_k, 256 * 20 * 3));
  gguf.add_tensor("c", DType::f16, {32, 40}, data(DType::f16, 32 * 40));
  return gguf;
}

/// Packed weights, however they came there.
struct Panels {
  AlignedBytes panels;
  std::vector<int8_t> exponents;
  PanelMemory memory() { return {panels, exponents}; }
  bool operator==(const Panels&) const = default;
};

struct Fixture {
  TempDir dir;
  fs::path path, cache;
  std::unique_ptr<GgufFile> model;
  std::vector<Weight> weights;
  Workers workers{2};

  explicit Fixture(uint64_t n_rows = 33) : path(dir / "m.gguf"), cache(dir / "m.gguf.panels") {
    write_model(n_rows, 1);
  }

  void write_model(uint64_t n_rows, uint32_t seed) {
    dir.write("m.gguf", model_gguf(n_rows, seed).bytes());
    open_model();
  }
  void open_model() {
    model = std::make_unique<GgufFile>(GgufFile::open(path));
    weights.clear();
    for (const char* name : {"a", "b", "c"}) weights.push_back({model->view(*model->find(name))});
  }
  std::vector<const Weight*> all() const {
    std::vector<const Weight*> list;
    for (const Weight& w : weights) list.push_back(&w);
    return list;
  }
  Panels empty_panels() const {
    Panels p;
    uint64_t n_bytes = 0, n_panels = 0;
    for (const Weight& w : weights) n_bytes += packed_bytes(w), n_panels += packed_panels(w);
    p.panels.resize(n_bytes, std::byte{0xee});
    p.exponents.resize(n_panels);
    return p;
  }
  Panels pack() const {
    Panels p = empty_panels();
    std::byte* to = p.panels.data();
    int8_t* exponent = p.exponents.data();
    for (const Weight& w : weights) {
      for (uint64_t m = 0; m < w.n_matrices(); ++m) {
        for (uint64_t row = 0; row < w.n_rows(); row += kPanelRows) {
          const uint64_t n = std::min(kPanelRows, w.n_rows() - row);
          *exponent++ = pack_panel(w.type(), w.slice(m).rows.row(row), n, w.n_cols(), to);
          to += panel_bytes(w.type(), w.n_cols());
        }
      }
    }
    return p;
  }
  void write_cache() {
    Panels packed = pack();
    write(packed, workers, {});
  }
  void write(Panels& packed, Workers& with, const LoadProgress& progress) const {
    PanelCacheWriter writer({cache}, *model, all());
    CHECK(writer.path() == cache);
    writer.write(packed.memory(), with, progress);
  }
  PanelCacheStatus read(Panels& to) {
    return read_panel_cache(cache, *model, all(), to.memory(), workers, {});
  }
  /// Why the cache is unusable; "" where it gives the right panels, "wrong" where wrong ones.
  std::string reason() {
    Panels found = empty_panels();
    const PanelCacheStatus status = read(found);
    if (status.state == State::absent) return "absent";
    if (status.state == State::unusable) return status.reason;
    return found == pack() ? "" : "wrong";
  }
  bool reason_has(const std::string& part) {
    const std::string found = reason();
    CAPTURE(found);
    CHECK(found.find(part) != std::string::npos);
    return found.find(part) != std::string::npos;
  }
};

uint64_t data_offset_of(const std::string& cache) {
  PanelCacheHeader header;
  std::memcpy(&header, cache.data(), sizeof(header));
  return header.data_offset;
}

void poke(const fs::path& path, uint64_t at, char value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(value);
  REQUIRE(file.flush());
}

}  // namespace

TEST_CASE("what was written is read: panels and exponents, over several chunks") {
  for (const uint64_t n_rows : {33u, 70000u}) {
    Fixture f(n_rows);
    CHECK(f.reason() == "absent");
    f.write_cache();
    CHECK(f.reason() == "");
    CHECK((f.pack().panels.size() > 2 * kPanelCacheChunkBytes) == (n_rows == 70000));
    CHECK(check_panel_cache(f.cache, *f.model, f.all(), f.workers, {}).state == State::valid);
    CHECK(fs::file_size(f.cache) % 64 == 0);
    CHECK_FALSE(fs::exists(f.cache.string() + ".part"));
  }
}

TEST_CASE("the file does not depend on the number of threads") {
  Fixture f(70000);
  f.write_cache();
  const std::string two = read_text(f.cache);
  Workers one(1);
  Panels packed = f.pack();
  f.write(packed, one, {});
  CHECK(read_text(f.cache) == two);
}

TEST_CASE("data begins at a multiple of 4096, in the order of the panels") {
  Fixture f;
  f.write_cache();
  const std::string bytes = read_text(f.cache);
  const uint64_t offset = data_offset_of(bytes);
  const Panels packed = f.pack();
  CHECK(offset % 4096 == 0);
  CHECK(bytes.starts_with("HYBPANEL"));
  REQUIRE(bytes.size() == offset + packed.panels.size());
  CHECK(std::memcmp(bytes.data() + offset, packed.panels.data(), packed.panels.size()) == 0);
}

TEST_CASE("a model that changed: size, content, time") {
  Fixture f;
  f.write_cache();
  const auto time = fs::last_write_time(f.path);

  std::string model = read_text(f.path);
  f.dir.write("m.gguf", model);
  fs::last_write_time(f.path, time + std::chrono::nanoseconds(1));
  f.open_model();
  CHECK(f.reason_has("the model was modified or copied since it was written"));

  fs::last_write_time(f.path, time);
  f.open_model();
  CHECK(f.reason() == "");

  model[model.size() - 1] ^= 1;  // the last tensor's data
  f.dir.write("m.gguf", model);
  fs::last_write_time(f.path, time);
  f.open_model();
  CHECK(f.reason_has("the model has changed since it was written"));
  model[model.size() - 1] ^= 1;
  model[model.find("deepseek2")] = 'D';  // metadata
  f.dir.write("m.gguf", model);
  fs::last_write_time(f.path, time);
  f.open_model();
  CHECK(f.reason_has("the model has changed since it was written"));

  model[model.find("Deepseek2")] = 'd';
  f.dir.write("m.gguf", model + std::string(32, '\0'));
  fs::last_write_time(f.path, time);
  f.open_model();
  CHECK(f.reason_has("the model has changed since it was written: "));

  f.write_model(49, 1);
  CHECK(f.reason_has("for another model"));
}

TEST_CASE("every byte of the head is checked") {
  Fixture f;
  f.write_cache();
  const std::string good = read_text(f.cache);
  const uint64_t n = data_offset_of(good);
  int n_missed = 0;
  for (uint64_t at = 0; at < n; ++at) {
    poke(f.cache, at, static_cast<char>(good[at] ^ (1 << at % 8)));
    const std::string reason = f.reason();
    if (reason.empty() || reason == "wrong") {
      MESSAGE("byte ", at, " '", reason, "'");
      ++n_missed;
    }
    poke(f.cache, at, good[at]);
  }
  CHECK(n_missed == 0);
  CHECK(f.reason() == "");
}

TEST_CASE("flips in the data are noticed, wherever they are") {
  Fixture f(70000);
  f.write_cache();
  const std::string good = read_text(f.cache);
  const uint64_t offset = data_offset_of(good);
  std::mt19937_64 random(3);
  std::vector<uint64_t> places{offset, good.size() - 1, offset + kPanelCacheChunkBytes - 1,
                               offset + kPanelCacheChunkBytes};
  while (places.size() < 60) places.push_back(offset + random() % (good.size() - offset));
  for (const uint64_t at : places) {
    CAPTURE(at);
    poke(f.cache, at, static_cast<char>(good[at] ^ (1 << random() % 8)));
    CHECK(f.reason_has("it is damaged (wrong checksum of the 2 MiB at byte "));
    CHECK(check_panel_cache(f.cache, *f.model, f.all(), f.workers, {}).state == State::unusable);
    poke(f.cache, at, good[at]);
  }
  CHECK(f.reason() == "");
}

TEST_CASE("chunks that changed places are noticed") {
  Fixture f(70000);
  f.write_cache();
  std::string bytes = read_text(f.cache);
  const uint64_t offset = data_offset_of(bytes);
  const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
  const auto second = first + static_cast<std::ptrdiff_t>(kPanelCacheChunkBytes);
  std::swap_ranges(first, second, second);
  f.dir.write("m.gguf.panels", bytes);
  CHECK(f.reason_has("it is damaged"));
}

TEST_CASE("a file cut short, or too long, at any place") {
  Fixture f;
  f.write_cache();
  const std::string good = read_text(f.cache);
  for (size_t n = 0; n < good.size(); n += n < 300 ? 1 : 97) {
    fs::resize_file(f.cache, n);
    CAPTURE(n);
    CHECK(f.reason_has("it is cut short"));
    f.dir.write("m.gguf.panels", good);
  }
  f.dir.write("m.gguf.panels", good + "x");
  CHECK(f.reason_has("too long"));
}

TEST_CASE("other versions and other files are told apart") {
  Fixture f;
  f.write_cache();
  poke(f.cache, 8, 9);
  CHECK(f.reason_has("it has format version 9, this program reads 1"));
  f.dir.write("m.gguf.panels", std::string(10000, 'x'));
  CHECK(f.reason_has("it is no cache of packed weights"));
  fs::remove(f.cache);
  fs::create_directory(f.cache);
  CHECK(f.reason_has("it is no regular file"));
  fs::remove(f.cache);
  REQUIRE(mkfifo(f.cache.c_str(), 0600) == 0);
  CHECK(f.reason_has("it is no regular file"));  // and does not wait for a writer
}

TEST_CASE("other weights of the same model are not this cache's") {
  Fixture f;
  f.write_cache();
  f.weights[0].rows = f.weights[0].rows.rows(0, 32);
  CHECK(f.reason_has("another version of the program"));
  f.open_model();
  std::swap(f.weights[0], f.weights[1]);
  CHECK(f.reason_has("another version of the program"));
}

TEST_CASE("an interrupted writer leaves nothing, and the cache that was there") {
  Fixture f(70000);
  Panels packed = f.pack();
  struct Stop {};
  const auto write_until = [&](int n_words) {
    const LoadProgress stop = [&n_words](const LoadStep& step) {
      if (--n_words == 0 && !step.finished) throw Stop{};
    };
    CHECK_THROWS_AS(f.write(packed, f.workers, stop), Stop);
    CHECK_FALSE(fs::exists(f.cache.string() + ".part"));
  };
  write_until(1);
  CHECK(f.reason() == "absent");
  f.write_cache();
  write_until(2);  // all is on the disk
  CHECK(f.reason() == "");
}

TEST_CASE("a model that changes while its cache is written") {
  Fixture f;
  Panels packed = f.pack();
  const LoadProgress touch = [&](const LoadStep&) {
    fs::last_write_time(f.path, fs::file_time_type::clock::now() + std::chrono::hours(1));
  };
  const std::string error = error_of([&] { f.write(packed, f.workers, touch); });
  CHECK(error.find("m.gguf: the file changed while its cache was written") != std::string::npos);
  CHECK(f.reason() == "absent");
}

TEST_CASE("progress: bytes grow, one last word") {
  Fixture f(70000);
  f.write_cache();
  Panels to = f.empty_panels();
  std::vector<LoadStep> steps;
  read_panel_cache(f.cache, *f.model, f.all(), to.memory(), f.workers,
                   [&](const LoadStep& step) { steps.push_back(step); });
  REQUIRE(steps.size() >= 2);
  CHECK(steps.back().finished);
  CHECK(steps.back().n_done == to.panels.size());
  CHECK(steps.back().cache == f.cache);
  CHECK(steps.back().activity == LoadActivity::read_cache);
  CHECK_FALSE(steps[0].finished);
}

TEST_CASE("where caches lie") {
  const EnvironmentVariable xdg("XDG_CACHE_HOME", "/xdg"), home("HOME", "/home/me");
  const auto paths = panel_cache_paths("/models/a.gguf");
  REQUIRE(paths.size() == 2);
  CHECK(paths[0] == "/models/a.gguf.panels");
  CHECK(paths[1].parent_path() == "/xdg/hybrid-run");
  CHECK(paths[1].filename().string().starts_with("a.gguf-"));
  CHECK(paths[1].extension() == ".panels");
  CHECK(panel_cache_paths("/other/a.gguf")[1] != paths[1]);
  CHECK(panel_cache_paths("/models/../models/a.gguf")[1] == paths[1]);
  CHECK(panel_cache_paths("/m/x-00002-of-00003.gguf")[0] == "/m/x-00001-of-00003.gguf.panels");
  const EnvironmentVariable relative("XDG_CACHE_HOME",
                                     "relative");  // the standard asks to ignore it
  CHECK(panel_cache_paths("a.gguf")[0] == "a.gguf.panels");
  CHECK(panel_cache_paths("a.gguf")[1].parent_path() == "/home/me/.cache/hybrid-run");
  const EnvironmentVariable no_home("HOME", {});
  CHECK(panel_cache_paths("a.gguf").size() == 1);
}

TEST_CASE("in a folder of others the user's cache folder is used") {
  Fixture f;
  const CacheFolder user;
  const std::vector<fs::path> paths = panel_cache_paths(f.path);
  Panels packed = f.pack();
  fs::permissions(f.dir.path(), fs::perms(0555));
  const bool is_root = geteuid() == 0;  // whom permissions do not stop
  if (is_root) {
    fs::permissions(user.dir.path(), fs::perms(0777));
    REQUIRE(seteuid(65534) == 0);
  }
  PanelCacheWriter writer(paths, *f.model, f.all());
  writer.write(packed.memory(), f.workers, {});
  if (is_root) REQUIRE(seteuid(0) == 0);
  fs::permissions(f.dir.path(), fs::perms(0755));
  CHECK(writer.path() == paths[1]);
  CHECK(fs::exists(paths[1]));
  CHECK_FALSE(fs::exists(paths[0]));
}

TEST_CASE("removing: caches and what was left unfinished, with or without the model") {
  Fixture f;
  const EnvironmentVariable no_cache("XDG_CACHE_HOME", {}), no_home("HOME", {});
  f.write_cache();
  f.dir.write("m.gguf.panels.part", "x");
  fs::remove(f.path);
  CHECK(remove_panel_caches(f.path).size() == 2);
  CHECK(remove_panel_caches(f.path).empty());
  CHECK(fs::is_empty(f.dir.path()));
}
