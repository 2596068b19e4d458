// Recurrent cells: one step of one unit, forward next to its derivative. The products with the
// weights are done before; an argument called z is what a gate's activation is applied to. Backward
// takes gates after their activation, since that is what forward keeps: slopes are right to u, not
// to u of themselves.
#pragma once
#include "activation.h"

namespace fastnn {
namespace {

// From the value y: sigma' = y (1 - y), tanh' = 1 - y^2.
FASTNN_FN float sigmoid_slope(float y) { return mad(-y, y, y); }
FASTNN_FN float tanh_slope(float y) { return mad(-y, y, 1.f); }

// h = act(z)
struct RnnTanh {
  static constexpr const char* kName = "tanh";
  FASTNN_FN static float fwd(float z) { return tanh(z); }
  FASTNN_FN static float bwd(float dh, float h) { return dh * tanh_slope(h); }
};
struct RnnRelu {
  static constexpr const char* kName = "relu";
  FASTNN_FN static float fwd(float z) { return Relu::fwd(z, 0.f); }
  FASTNN_FN static float bwd(float dh, float h) { return Relu::bwd(dh, h, 0.f); }
};

using RnnCells = ActivationList<RnnTanh, RnnRelu>;

// Long short-term memory: c = f c' + i g, h = o tanh(c), with i, f, o = sigma(z) and g = tanh(z).
struct Lstm {
  struct Gates {
    float i, f, g, o;
  };
  struct State {
    float h, c;
  };
  struct Gradients {
    Gates z;
    float c_prev;
  };
  FASTNN_FN static Gates activate(const Gates& z) {
    return {sigmoid(z.i), sigmoid(z.f), tanh(z.g), sigmoid(z.o)};
  }
  FASTNN_FN static State fwd(const Gates& a, float c_prev) {
    const float c = mad(a.f, c_prev, a.i * a.g);
    return {a.o * tanh(c), c};
  }
  // From d, all that is known about c; z.o is not its matter.
  FASTNN_FN static Gradients cell_bwd(float d, const Gates& a, float c_prev) {
    return {{d * a.g * sigmoid_slope(a.i), d * c_prev * sigmoid_slope(a.f),
             d * a.i * tanh_slope(a.g), 0.f},
            d * a.f};
  }
  // dc is what later steps say about c; what h says is added to it.
  FASTNN_FN static Gradients bwd(float dh, float dc, const Gates& a, float c, float c_prev) {
    const float t = tanh(c);
    Gradients d = cell_bwd(mad(dh * a.o, tanh_slope(t), dc), a, c_prev);
    d.z.o = dh * t * sigmoid_slope(a.o);
    return d;
  }

  // h = o tanh(n), where n is a norm of c.
  struct OutputGradients {
    float z_o, n;
  };
  FASTNN_FN static float output(float o, float n) { return o * tanh(n); }
  FASTNN_FN static OutputGradients output_bwd(float dh, float o, float n) {
    const float t = tanh(n);
    return {dh * t * sigmoid_slope(o), dh * o * tanh_slope(t)};
  }
};

// Gated recurrent unit: h = z h' + (1 - z) n, with n = tanh(x_n + r h_n), or tanh of one sum whose
// hidden part has r inside. With a negative `sign` z is the part of n instead: h = z n + (1 - z)
// h'.
struct Gru {
  struct Gates {
    float r, z, n;
  };
  // Where r is applied to n's hidden part, and the gradient of r's argument from that of what r is
  // a factor of.
  FASTNN_FN static Gates activate(const Gates& sums, float hidden) {
    const float r = sigmoid(sums.r);
    return {r, sigmoid(sums.z), tanh(mad(r, hidden, sums.n))};
  }
  FASTNN_FN static float reset_bwd(float d, float with, float r) {
    return d * with * sigmoid_slope(r);
  }

  struct Gradients {
    float z, n, h_prev;  // of z's and n's arguments, and the part of h' that passes z
  };
  FASTNN_FN static float fwd(float z, float n, float h_prev, float sign) {
    const float a = sign > 0.f ? h_prev : n, b = sign > 0.f ? n : h_prev;
    return mad(z, a, mad(-z, b, b));
  }
  FASTNN_FN static Gradients bwd(float dh, float z, float n, float h_prev, float sign) {
    const float rest = 1.f - z;
    const float old = sign > 0.f ? z : rest, fresh = sign > 0.f ? rest : z;
    return {sign * dh * (h_prev - n) * sigmoid_slope(z), dh * fresh * tanh_slope(n), dh * old};
  }
};

}  // namespace
}  // namespace fastnn
