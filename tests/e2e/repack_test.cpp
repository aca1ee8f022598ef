// The cache of packed weights as a user meets it, on a copy of the model that ships with the
// project.

#include <doctest/doctest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tensor/simd_level.h"
#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

struct Files {
  TempDir dir;
  std::string model = (dir / "demo.gguf").string();
  std::string cache = model + ".panels";

  Files() {
    fs::copy_file(HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf", model);
    setenv("XDG_CACHE_HOME", (dir / "user").c_str(), 1);
  }
  size_t n_files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(dir.path()), {}));
  }
};

ProgramResult run_well(const std::vector<std::string>& words) {
  ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

ProgramResult generate(const Files& f, std::vector<std::string> more = {}) {
  std::vector<std::string> words{"run", "-m", f.model, "-p", "And the", "-n", "4", "--temp", "0"};
  words.insert(words.end(), more.begin(), more.end());
  return run_well(words);
}

bool has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

/// The scalar level packs nothing.
bool level_packs() { return hybrid::best_simd_level() != hybrid::SimdLevel::scalar; }

void damage(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(1000000);
  const int byte = file.get();
  file.seekp(1000000);
  file.put(static_cast<char>(byte ^ 1));
}

void check_error(const std::vector<std::string>& words, int exit_code, const std::string& message) {
  const ProgramResult result = run_program(words);
  CAPTURE(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(is_one_error_line(result.err));
  CHECK(result.err.find(message) != std::string::npos);
  CHECK(result.out.empty());
}

}  // namespace

TEST_CASE("repack writes a cache that later runs read, with the same text") {
  if (!level_packs()) return;
  const Files f;
  const ProgramResult before = generate(f);
  CHECK(has(before.err, "packed 13."));
  const ProgramResult written = run_well({"repack", "-m", f.model});
  CHECK(written.out == f.cache + "\n");
  CHECK(has(written.err, "wrote 13."));
  CHECK(f.n_files() == 2);
  CHECK(run_well({"repack", "-m", f.model, "--check"}).out == f.cache + ": valid\n");

  const ProgramResult cached = generate(f);
  CHECK(has(cached.err, "of packed weights from " + f.cache));
  CHECK(cached.err.find("packed 13.") == std::string::npos);
  CHECK(cached.out == before.out);
  const ProgramResult unpacked = generate(f, {"-rtr", "0"});
  CHECK(unpacked.err.find(f.cache) == std::string::npos);
  CHECK(unpacked.out == before.out);
}

TEST_CASE("a cache of a model that was touched is not used, and says so") {
  if (!level_packs()) return;
  const Files f;
  run_well({"repack", "-m", f.model});
  const std::string text = generate(f).out;
  fs::last_write_time(f.model, fs::last_write_time(f.model) + std::chrono::seconds(1));
  const ProgramResult stale = generate(f);
  CHECK(has(stale.err, f.cache + " is not used: the model was modified or copied"));
  CHECK(has(stale.err, "`hybrid-run repack -m " + f.model + "` writes it anew"));
  CHECK(has(stale.err, "packed 13."));
  CHECK(stale.out == text);
  run_well({"repack", "-m", f.model});
  CHECK(has(generate(f).err, "of packed weights from " + f.cache));
}

TEST_CASE("a damaged cache is not used; --check and --remove") {
  if (!level_packs()) return;
  const Files f;
  run_well({"repack", "-m", f.model});
  const std::string text = generate(f).out;
  damage(f.cache);
  const ProgramResult damaged = generate(f);
  CHECK(has(damaged.err, f.cache + " is not used: it is damaged"));
  CHECK(damaged.out == text);
  const ProgramResult checked = run_program({"repack", "-m", f.model, "--check"});
  CHECK(checked.exit_code == 1);
  CHECK(checked.out.empty());
  CHECK(has(checked.err, "it is damaged (wrong checksum of the 2 MiB at byte "));

  std::ofstream(f.cache + ".part") << "left by a crash";
  const std::string removed = run_well({"repack", "-m", f.model, "--remove"}).out;
  CHECK(removed == "removed " + f.cache + "\nremoved " + f.cache + ".part\n");
  CHECK(f.n_files() == 1);
  CHECK(run_well({"repack", "-m", f.model, "--remove"}).out.empty());
  check_error({"repack", "-m", f.model, "--check"}, 1,
              "the model has no cache; `hybrid-run repack");
}

TEST_CASE("repack: what is wrong is one line") {
  const Files f;
  check_error({"repack"}, 2, "-m");
  check_error({"repack", "-m", f.model, "--check", "--remove"}, 2, "--check or --remove");
  check_error({"repack", "-m", "/none.gguf"}, 1, "/none.gguf");
  check_error({"repack", "-m", "/none.gguf", "--remove"}, 1, "no such model");
  const std::string tiny = f.dir.write("tiny.gguf", tiny_model().bytes()).string();
  check_error({"repack", "-m", tiny}, 1, "it needs no cache");
}

TEST_CASE("repack: Ctrl-C leaves nothing unfinished") {
  const Files f;
  for (int i = 0; i < 5; ++i) {
    const ProgramResult result =
        run_program({"repack", "-m", f.model}, {.interrupt_at_file = f.cache + ".part"});
    // Whether it was in time is chance; what it leaves is not.
    CHECK((result.exit_code == 130 || result.exit_code == 0));
    CHECK_FALSE(fs::exists(f.cache + ".part"));
    CHECK(fs::exists(f.cache) == (result.exit_code == 0));
    fs::remove(f.cache);
  }
}
