#include "placement/inventory.h"

#include <doctest/doctest.h>

#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

TEST_CASE("names tell roles and layers") {
  CHECK(role_of("token_embd.weight") == TensorRole::embedding);
  CHECK(role_of("output.weight") == TensorRole::output);
  CHECK(role_of("output_norm.weight") == TensorRole::norm);
  CHECK(role_of("blk.0.attn_norm.weight") == TensorRole::norm);
  CHECK(role_of("blk.0.attn_kv_a_norm.weight") == TensorRole::norm);
  for (const char* name :
       {"attn_q", "attn_q_a", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_output"}) {
    CHECK(role_of("blk.60." + std::string(name) + ".weight") == TensorRole::attention);
  }
  CHECK(role_of("blk.0.ffn_gate.weight") == TensorRole::dense);
  CHECK(role_of("blk.3.ffn_gate_inp.weight") == TensorRole::router);
  CHECK(role_of("blk.3.exp_probs_b.bias") == TensorRole::router);
  CHECK(role_of("blk.3.ffn_gate_exps.weight") == TensorRole::routed_gate);
  CHECK(role_of("blk.3.ffn_up_exps.weight") == TensorRole::routed_up);
  CHECK(role_of("blk.3.ffn_gate_up_exps.weight") == TensorRole::routed_up);
  CHECK(role_of("blk.3.ffn_down_exps.weight") == TensorRole::routed_down);
  CHECK(role_of("blk.3.ffn_down_shexp.weight") == TensorRole::shared);
  CHECK(role_of("mtp.weight") == TensorRole::other);
  CHECK(role_of("blk.x.attn_q.weight") == TensorRole::other);
  CHECK(layer_of("blk.60.attn_q.weight") == 60);
  CHECK(layer_of("output.weight") == -1);
  CHECK(layer_of("blk.") == -1);
}

TEST_CASE("an inventory has all tensors, and a token reads its share of them") {
  const TempDir dir;
  const GgufFile file = GgufFile::open(dir.write("m.gguf", tiny_model({}).bytes()));
  constexpr uint32_t kUsed = 2;
  const auto all = make_inventory(file, kUsed);
  REQUIRE(all.size() == file.tensors().size());
  for (size_t i = 0; i < all.size(); ++i) {
    const GgufTensorInfo& info = all[i].tensor->info;
    CAPTURE(info.name);
    CHECK(all[i].tensor == &file.tensors()[i]);
    CHECK(all[i].role != TensorRole::other);
    if (is_routed(all[i].role)) {
      CHECK(all[i].n_experts == info.ne[2]);
      CHECK(all[i].bytes_per_token * info.ne[2] == info.n_bytes * kUsed);
    } else if (all[i].role == TensorRole::embedding) {
      CHECK(all[i].bytes_per_token * info.ne[1] == info.n_bytes);
    } else {
      CHECK(all[i].bytes_per_token == info.n_bytes);
    }
  }
}
