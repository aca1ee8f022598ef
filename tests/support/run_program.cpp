#include "tests/support/run_program.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"

namespace hybrid::test {
namespace {

using namespace std::chrono_literals;

void redirect(int fd, const std::string& path, int flags) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, fd) < 0) _exit(127);
}

/// From here on, and after exec, ARCH_REQ_XCOMP_PERM fails with EPERM, as a container's rules may
/// have it.
void refuse_tiles() {
#if defined(__x86_64__)
  constexpr uint32_t kRequestPermission = 0x1023;
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kRequestPermission, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(rules), rules};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    _exit(127);
  }
#endif
}

[[noreturn]] void become_program(const std::vector<std::string>& words, const std::string& in,
                                 const std::string& out, const std::string& err) {
  redirect(STDIN_FILENO, in, O_RDONLY);
  redirect(STDOUT_FILENO, out, O_WRONLY | O_CREAT);
  redirect(STDERR_FILENO, err, O_WRONLY | O_CREAT);
  const std::string program = std::string(HYBRID_TEST_BINARY_DIR) + "/hybrid-run";
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  _exit(127);
}

/// Waits for the child; sends SIGINT when it is time, SIGKILL when it takes too long.
int wait_for(pid_t child, const ProgramInput& input) {
  const auto start = std::chrono::steady_clock::now();
  const bool by_time = input.interrupt_after_ms >= 0;
  bool interrupted = !by_time && input.interrupt_at_file.empty();
  while (true) {
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    const auto elapsed = std::chrono::steady_clock::now() - start;
    if (!interrupted && (by_time ? elapsed > std::chrono::milliseconds(input.interrupt_after_ms)
                                 : std::filesystem::exists(input.interrupt_at_file))) {
      kill(child, SIGINT);
      interrupted = true;
    }
    if (elapsed > 120s) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      throw std::runtime_error("hybrid-run did not end within two minutes");
    }
    if (interrupted || by_time) std::this_thread::sleep_for(2ms);
  }
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& words, const ProgramInput& input) {
  const TempDir dir;
  const std::string in = dir.write("in", input.text).string();
  const std::string err = (dir / "err").string();
  const std::string out = input.stdout_file.empty() ? (dir / "out").string() : input.stdout_file;
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) {
    if (input.refuse_tiles) refuse_tiles();
    become_program(words, in, out, err);
  }
  ProgramResult result;
  result.exit_code = wait_for(child, input);
  if (input.stdout_file.empty()) result.out = read_text(out);
  result.err = read_text(err);
  return result;
}

bool is_one_error_line(const std::string& err) {
  return err.starts_with("hybrid-run: ") && err.ends_with('\n') &&
         std::count(err.begin(), err.end(), '\n') == 1;
}

}  // namespace hybrid::test
