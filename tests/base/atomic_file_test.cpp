#include "base/atomic_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

void write_whole(const std::vector<fs::path>& paths, const std::string& text) {
  AtomicFile file(paths);
  file.reserve(text.size());
  file.write(0, bytes_of(text));
  file.begin_sync();
  file.sync();
  file.commit();
}

size_t n_files(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

/// No file of this process may grow beyond that; the error for more instead of the signal.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t n_bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{n_bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

}  // namespace

TEST_CASE("a file has its name when it is complete, and replaces what was there") {
  const TempDir dir;
  const fs::path path = dir / "f";
  dir.write("f", "old");
  {
    AtomicFile file({path});
    file.write(3, bytes_of("def"));
    file.write(0, bytes_of("abc"));
    CHECK(read_text(path) == "old");
    file.sync();
    file.commit();
    CHECK(file.path() == path);
  }
  CHECK(read_text(path) == "abcdef");
  CHECK(n_files(dir.path()) == 1);
}

TEST_CASE("without commit nothing is left, and the old file stays") {
  const TempDir dir;
  dir.write("f", "old");
  {
    AtomicFile file({dir / "f"});
    file.write(0, bytes_of("new"));
    file.sync();
  }
  CHECK(read_text(dir / "f") == "old");
  CHECK(n_files(dir.path()) == 1);
}

TEST_CASE("what a crash left behind is written anew") {
  const TempDir dir;
  dir.write("f.part", std::string(1000, 'x'));
  write_whole({dir / "f"}, "abc");
  CHECK(read_text(dir / "f") == "abc");
  CHECK(n_files(dir.path()) == 1);
}

TEST_CASE("two writers of one file: the second is refused and disturbs nothing") {
  const TempDir dir;
  AtomicFile first({dir / "f"});
  first.write(0, bytes_of("first"));
  const std::string error = error_of([&] { AtomicFile second({dir / "f"}); });
  CHECK(error.find("f.part: another process is writing this file") != std::string::npos);
  first.sync();
  first.commit();
  CHECK(read_text(dir / "f") == "first");
}

TEST_CASE("a file that cannot grow is an error and leaves nothing") {
  const TempDir dir;
  const std::string text(100000, 'x');
  {
    const FileSizeLimit limit(50000);
    const std::string error = error_of([&] { write_whole({dir / "f"}, text); });
    CHECK(error == (dir / "f").string() + ": cannot write: File too large");
    const std::string late = error_of([&] {
      AtomicFile file({dir / "f"});
      file.write(0, bytes_of(text));
    });
    CHECK(late == error);
  }
  CHECK(n_files(dir.path()) == 0);
}

TEST_CASE("the first place that can be written to is taken; folders are made") {
  const TempDir dir;
  const fs::path good = dir / "a/b/f";
  write_whole({"/proc/no such folder/f", good, dir / "c"}, "abc");
  CHECK(read_text(good) == "abc");
  CHECK(n_files(dir.path()) == 1);
  const std::string error = error_of([&] { AtomicFile({"/proc/none/f", "/proc/none/g"}); });
  CHECK(error.find("/proc/none/f: cannot open for writing: ") == 0);
  CHECK(error.find("; /proc/none/g: cannot open for writing: ") != std::string::npos);
}

TEST_CASE("a link in the place of the unfinished file is not followed") {
  const TempDir dir;
  const fs::path other = dir.write("other", "precious");
  fs::create_symlink(other, dir / "f.part");
  CHECK_THROWS_AS(AtomicFile({dir / "f"}), Error);
  CHECK(read_text(other) == "precious");
}
