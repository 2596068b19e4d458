// One training step of a 64-64-64-10 network (batch 32, relu, cross-entropy, Adam), written by hand
// for these sizes alone: the reference that a general library is held against. Weights are kept as
// [in][out], so that forward needs no transpose; backward transposes two of the three.
//
// Fresh batches from a ring of 50, and a low learning rate, keep the numbers healthy: a network
// that has learned its only batch has gradients of almost zero, Adam's moments and the softmax then
// decay into subnormals, and Intel's processors take a hundred times longer for those.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float VecU __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// C[i_count rows, NV vectors] = A B; A has strides (row, col), B and C have rows of ld floats.
template <int R, int NV>
inline __attribute__((always_inline)) void tile(int k, const float* a, int row, int col,
                                                const float* b, int ldb, float* c, int ldc) {
  Vec acc[R][NV] = {};
  for (int p = 0; p < k; ++p) {
    Vec bv[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) bv[v] = *reinterpret_cast<const VecU*>(b + p * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const float s = a[i * row + p * col];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[i][v] += s * bv[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) *reinterpret_cast<VecU*>(c + i * ldc + v * kLanes) = acc[i][v];
  }
}

template <int M, int N, int K>
void product(const float* a, int row, int col, const float* b, int ldb, float* c, int ldc) {
  constexpr int kVectors = N % (4 * kLanes) == 0 ? 4 : N % (2 * kLanes) == 0 ? 2 : 1;
  constexpr int kRows = kVectors == 4 ? 4 : 8;
  static_assert(M % kRows == 0 && N % (kVectors * kLanes) == 0);
  for (int j = 0; j < N; j += kVectors * kLanes)
    for (int i = 0; i < M; i += kRows)
      tile<kRows, kVectors>(K, a + i * row, row, col, b + j, ldb, c + i * ldc + j, ldc);
}

class StepByHand {
 public:
  StepByHand() {
    std::mt19937 bits(0);
    std::normal_distribution<float> normal;
    x_.resize(kRing * kBatch * kIn);
    y_.resize(kRing * kBatch);
    for (float& v : x_) v = normal(bits);
    for (int& v : y_) v = static_cast<int>(bits() % kClasses);
    for (int i = 0; i < kParameters; ++i) p_[i] = normal(bits) / 8;
  }
  float loss() const { return loss_; }

  void step() {
    const float* x = x_.data() + turn_ * kBatch * kIn;
    const int* y = y_.data() + turn_ * kBatch;
    turn_ = (turn_ + 1) % kRing;
    product<kBatch, 64, 64>(x, 64, 1, p_ + kW1, 64, h1_, 64);
    bias_relu(h1_, p_ + kB1);
    product<kBatch, 64, 64>(h1_, 64, 1, p_ + kW2, 64, h2_, 64);
    bias_relu(h2_, p_ + kB2);
    product<kBatch, kOut, 64>(h2_, 64, 1, p_ + kW3, kOut, z_, kOut);
    cross_entropy(y);
    product<64, kOut, kBatch>(h2_, 1, 64, z_, kOut, g_ + kW3, kOut);
    column_sums<kOut>(z_, g_ + kB3);
    transpose<64, kOut>(p_ + kW3, t_);
    product<kBatch, 64, kOut>(z_, kOut, 1, t_, 64, d_, 64);
    relu_backward(d_, h2_);
    product<64, 64, kBatch>(h1_, 1, 64, d_, 64, g_ + kW2, 64);
    column_sums<64>(d_, g_ + kB2);
    transpose<64, 64>(p_ + kW2, t_);
    product<kBatch, 64, 64>(d_, 64, 1, t_, 64, e_, 64);
    relu_backward(e_, h1_);
    product<64, 64, kBatch>(x, 1, 64, e_, 64, g_ + kW1, 64);
    column_sums<64>(e_, g_ + kB1);
    adam();
  }

 private:
  static constexpr int kIn = 64, kClasses = 10, kOut = 16, kBatch = 32, kRing = 50;
  static constexpr int kW1 = 0, kW2 = kW1 + 64 * 64, kW3 = kW2 + 64 * 64, kB1 = kW3 + 64 * kOut,
                       kB2 = kB1 + 64, kB3 = kB2 + 64, kParameters = kB3 + kOut;

  static void bias_relu(float* h, const float* bias) {
    for (int i = 0; i < kBatch; ++i)
      for (int j = 0; j < 64; ++j) {
        const float z = h[i * 64 + j] + bias[j];
        h[i * 64 + j] = z > 0 ? z : 0;
      }
  }
  static void relu_backward(float* d, const float* h) {
    for (int i = 0; i < kBatch * 64; ++i) d[i] = h[i] > 0 ? d[i] : 0;
  }
  template <int N>
  static void column_sums(const float* d, float* sums) {
    float acc[N] = {};
    for (int i = 0; i < kBatch; ++i)
      for (int j = 0; j < N; ++j) acc[j] += d[i * N + j];
    std::memcpy(sums, acc, sizeof acc);
  }
  template <int Rows, int Cols>
  static void transpose(const float* w, float* t) {
    for (int c = 0; c < Cols; ++c)
      for (int r = 0; r < Rows; ++r) t[c * Rows + r] = w[r * Cols + c];
  }
  // e^x for x <= 0, to a few ULP: 2^n (1 + r + ...), |r| <= ln 2 / 2.
  static float exp(float x) {
    x = x > -80.f ? x : -80.f;
    const float n = (x * 1.44269504f + 12582912.f) - 12582912.f, r = x - n * 0.69314718f;
    const float q = 1 + r * (1 + r * (0.5f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f)))));
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return q * scale;
  }
  // z becomes (softmax(z + b) - onehot(y)) / batch; columns beyond the classes become 0.
  void cross_entropy(const int* y) {
    float total = 0;
    for (int i = 0; i < kBatch; ++i) {
      float* z = z_ + i * kOut;
      float top = -1e30f, sum = 0, label = 0;
      for (int j = 0; j < kClasses; ++j) z[j] += p_[kB3 + j];
      for (int j = 0; j < kClasses; ++j) top = z[j] > top ? z[j] : top;
      label = z[y[i]] - top;
      for (int j = 0; j < kOut; ++j) z[j] = j < kClasses ? exp(z[j] - top) : 0.f;
      for (int j = 0; j < kOut; ++j) sum += z[j];
      for (int j = 0; j < kOut; ++j) z[j] = (z[j] / sum - (j == y[i] ? 1.f : 0.f)) / kBatch;
      total += std::log(sum) - label;
    }
    loss_ = total / kBatch;
  }
  void adam() {
    beta1_ *= 0.9;
    beta2_ *= 0.999;
    const auto rate = static_cast<float>(1e-5 / (1 - beta1_));
    const auto scale = static_cast<float>(1 / std::sqrt(1 - beta2_));
    for (int i = 0; i < kParameters; ++i) {
      m_[i] = 0.9f * m_[i] + 0.1f * g_[i];
      v_[i] = 0.999f * v_[i] + 0.001f * g_[i] * g_[i];
      p_[i] -= rate * m_[i] / (std::sqrt(v_[i]) * scale + 1e-8f);
    }
  }

  std::vector<float> x_;
  std::vector<int> y_;
  int turn_ = 0;
  double beta1_ = 1, beta2_ = 1;
  float loss_ = 0;
  alignas(64) float p_[kParameters] = {}, g_[kParameters] = {}, m_[kParameters] = {},
                    v_[kParameters] = {};
  alignas(64) float h1_[kBatch * 64], h2_[kBatch * 64], z_[kBatch * kOut], d_[kBatch * 64],
      e_[kBatch * 64], t_[64 * 64];
};
