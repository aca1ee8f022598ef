// Saved sequences: what is restored goes on bit for bit, and what is not whole or belongs to
// something else is refused with the reason.

#include "runtime/sequence_file.h"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "base/hash.h"
#include "runtime/engine.h"
#include "tests/runtime/sequence_cases.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"

using namespace hybrid;
using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

struct Saved {
  TinyFile file;
  Model model;
  fs::path path = file.dir / "prompt.kv";
  std::string bytes;

  explicit Saved(const AttentionOptions& attention = {}, const TinyModelOptions& options = {})
      : file(options), model(file.path, ExpertGroups::automatic) {
    Sequence sequence(model, 64, {.attention = attention});
    append(sequence, tokens_from(0, 25));
    SequenceFileWriter(path).write(sequence);
    bytes = read_text(path);
  }

  void write(const std::string& content) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }

  /// What restoring says; "" where it works.
  std::string error(const AttentionOptions& attention = {}, uint32_t n_ctx = 64) const {
    return error_for(model, attention, n_ctx);
  }
  std::string error_for(const Model& other, const AttentionOptions& attention = {},
                        uint32_t n_ctx = 64) const {
    Sequence sequence(other, n_ctx, {.attention = attention});
    const std::string message = error_of([&] { restore_sequence(path, sequence); });
    CHECK(message.find('\n') == std::string::npos);
    CHECK(sequence.tokens().size() == (message.empty() ? 25 : 0));
    return message;
  }

  /// The file with another header, whose hash is right.
  void change(const std::function<void(SequenceFileHeader&)>& edit) const {
    SequenceFileHeader h;
    std::memcpy(&h, bytes.data(), sizeof(h));
    edit(h);
    h.header_hash = hash_bytes(
        std::as_bytes(std::span(&h, 1)).first(offsetof(SequenceFileHeader, header_hash)), 1);
    std::string changed = bytes;
    std::memcpy(changed.data(), &h, sizeof(h));
    write(changed);
  }
};

bool has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a restored sequence goes on as the one that was saved, in every mode and type") {
  const TinyFile file;
  const Model model(file.path, ExpertGroups::automatic);
  const fs::path path = file.dir / "s";
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    for (const AttentionOptions& attention : all_caches(type)) {
      CAPTURE(static_cast<int>(attention.mla));
      CAPTURE(attention.flash);
      for (const uint32_t n : {1u, 24u, 25u, 64u}) {  // 64: the file's model's whole context
        Sequence saved(model, 80, {.attention = attention});
        append(saved, tokens_from(0, n));
        SequenceFileWriter(path).write(saved);
        Sequence restored(model, 64 + (n == 64 ? 10 : 0), {.attention = attention});
        append(restored, tokens_from(200, 30));  // forgotten
        REQUIRE(restore_sequence(path, restored));
        CHECK(restored.tokens() == saved.tokens());
        CHECK(append(restored, tokens_from(90, 7)) == append(saved, tokens_from(90, 7)));
        CHECK(append(restored, tokens_from(3, 1)) == append(saved, tokens_from(3, 1)));
      }
    }
  }
  CHECK_FALSE(fs::exists(AtomicFile::part_path(path)));
}

TEST_CASE("the engine reuses what was restored, to the same text") {
  EngineOptions options;
  const TinyFile file;
  options.model = file.path;
  const Engine engine(options);
  const auto generate = [&](Sequence& sequence, std::vector<TokenId> prompt, std::string& text) {
    GenerateParams params;
    params.sampling.temperature = 0;
    params.n_predict = 8;
    return engine.generate(sequence, prompt, params, [&](std::string_view s) { text += s; });
  };
  std::string first, again, second, continued;
  Sequence sequence = engine.make_sequence();
  generate(sequence, tokens_from(0, 20), first);
  SequenceFileWriter(file.dir / "s").write(sequence);
  Sequence restored = engine.make_sequence();
  REQUIRE(restore_sequence(file.dir / "s", restored));
  CHECK(generate(restored, tokens_from(0, 30), second).n_reused == 20);
  CHECK(generate(sequence, tokens_from(0, 30), continued).n_reused == 20);
  CHECK(second == continued);
}

TEST_CASE("no file is no error; modes with the same rows read each other's files") {
  const Saved saved;
  Sequence sequence(saved.model, 64, {});
  CHECK_FALSE(restore_sequence(saved.file.dir / "none", sequence));
  CHECK(saved.error().empty());
  CHECK(saved.error({.mla = MlaMode::absorbed}).empty());
  CHECK(saved.error({.mla = MlaMode::absorbed_transposed}).empty());
  CHECK(saved.error({}, 25).empty());  // another context that is large enough
}

TEST_CASE("a copy of the model is the same model; another one is not") {
  const Saved saved;
  const fs::path copy = saved.file.dir / "copy.gguf";
  fs::copy_file(saved.file.path, copy);
  fs::last_write_time(copy, fs::last_write_time(copy) + std::chrono::hours(1));
  CHECK(saved.error_for(Model(copy, ExpertGroups::automatic)).empty());
  const TinyFile other({}, 2);  // the same size
  has(saved.error_for(Model(other.path, ExpertGroups::automatic)),
      "expected a saved sequence of a model of");
  const Saved grouped({}, {.n_groups = 4, .n_groups_used = 2});
  has(grouped.error_for(Model(grouped.file.path, ExpertGroups::off)), "--expert-groups");
}

TEST_CASE("another cache, a smaller context, another version") {
  const Saved saved;
  CHECK(saved.error({.key_type = DType::q8_0}) ==
        saved.path.string() +
            ": expected a saved sequence for -mla 3 -ctk q8_0, found one of -mla 3 -ctk f16; run "
            "with those options, or choose another file");
  has(saved.error({.mla = MlaMode::standard}), "for -mla 0 -ctk f16 -ctv f16, found one of -mla 3");
  has(saved.error({.mla = MlaMode::absorbed_transposed, .flash = false}),
      "for -mla 1 -ctk f16 -fa 0, found one of -mla 3 -ctk f16;");
  has(saved.error({}, 24), "found one of 25; raise -c to 25 or more");
  saved.change([](SequenceFileHeader& h) { h.version = 2; });
  has(saved.error(), "expected a saved sequence of version 1, found one of version 2");
  const Saved standard({.mla = MlaMode::standard});
  has(standard.error({.mla = MlaMode::standard, .value_type = DType::q8_0}), "-ctv q8_0, found");
}

TEST_CASE("a file that is cut short or goes on too long is refused, at every length") {
  const Saved saved;
  const size_t body = sizeof(SequenceFileHeader) + 26 * sizeof(TokenId) + 3 * sizeof(uint64_t);
  std::vector<size_t> lengths{saved.bytes.size() - 1, saved.bytes.size() - 8, body, body - 1,
                              body + 1};
  for (size_t n = 0; n < sizeof(SequenceFileHeader) + 40; ++n) lengths.push_back(n);
  for (size_t i = 1; i < 40; ++i) lengths.push_back(saved.bytes.size() * i / 40);
  for (const size_t n : lengths) {
    CAPTURE(n);
    saved.write(saved.bytes.substr(0, n));
    has(saved.error(), "the saved sequence is damaged");
  }
  saved.write(saved.bytes + '\0');
  has(saved.error(),
      fmt::format("expected {} bytes, found {}", saved.bytes.size(), saved.bytes.size() + 1));
  saved.write("some notes of mine, nothing else");
  has(saved.error(), "expected a saved sequence, found another kind of file");
}

TEST_CASE("each flipped bit is found") {
  const Saved saved;
  std::mt19937 random(3);
  for (size_t i = 0; i < 3000; ++i) {
    // All of the header and the tokens, and some of the rest.
    const size_t at = i < 300 ? i : random() % saved.bytes.size();
    std::string bytes = saved.bytes;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    saved.write(bytes);
    CAPTURE(at);
    CHECK(!saved.error().empty());
  }
}

TEST_CASE("headers that lie, with a right checksum, are refused, too") {
  const Saved saved;
  saved.change([](SequenceFileHeader& h) { h.n_tokens = 26; });
  has(saved.error(), "damaged");
  saved.change([](SequenceFileHeader& h) { h.n_tokens = UINT32_MAX; });
  has(saved.error(), "raise -c");
  saved.change([](SequenceFileHeader& h) { h.n_tokens = 0; });
  has(saved.error(), "damaged");
  saved.change([](SequenceFileHeader& h) { h.data_bytes += 8; });
  has(saved.error(), "damaged");
}

TEST_CASE("what cannot be written is known when the writer is made") {
  const Saved saved;
  const fs::path dir = saved.file.dir.path();
  has(error_of([&] { SequenceFileWriter w(dir); }), "found a folder");
  has(error_of([&] { SequenceFileWriter w(dir / "none" / "s"); }), "does not exist; create it");
  has(error_of([&] { SequenceFileWriter w("/dev/null"); }), "found something else");
  has(error_of([&] { SequenceFileWriter w("/proc/s"); }), "cannot open for writing");
  const SequenceFileWriter first(saved.path);
  has(error_of([&] { SequenceFileWriter w(saved.path); }), "another process is writing");
  CHECK(saved.error().empty());  // what was there is still whole
}

TEST_CASE("a link is followed, not replaced") {
  const Saved saved;
  const fs::path link = saved.file.dir / "link";
  fs::create_symlink(saved.path, link);
  Sequence sequence(saved.model, 64, {});
  append(sequence, tokens_from(5, 25));
  SequenceFileWriter(link).write(sequence);
  CHECK(fs::is_symlink(link));
  CHECK(read_text(saved.path) != saved.bytes);
  CHECK(saved.error().empty());
}
