// What the machine can do, measured next to the libraries: peak FMA rate, copy bandwidth, and one
// training step of a small network written by hand. bench/run.py compiles this for the processor it
// runs on and talks to it: one command per line in, one JSON object per line out.
//   fma THREADS SECONDS          -> {"gflops": best}
//   copy THREADS BYTES SECONDS   -> {"gbs": best}, bytes read plus bytes written, BYTES in all
//   step SECONDS                 -> {"us": median over samples of 50 steps, "loss": of the last
//   step}
// "best" is the best of many short samples: other processes only ever make a sample slower.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "step_by_hand.h"

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Runs `work` (which returns units done) on each thread for `seconds`, in slices of about a
// millisecond; the sum over threads of each one's best rate, in units per second.
template <class Make>
double best_rate(int threads, double seconds, Make make) {
  std::vector<double> best(static_cast<size_t>(threads), 0.0);
  auto body = [&](int id) {
    auto work = make(id);
    work();
    const auto start = Clock::now();
    do {
      const auto slice = Clock::now();
      double units = 0, elapsed = 0;
      do {
        units += work();
        elapsed = seconds_since(slice);
      } while (elapsed < 1e-3);
      best[static_cast<size_t>(id)] = std::max(best[static_cast<size_t>(id)], units / elapsed);
    } while (seconds_since(start) < seconds);
  };
  std::vector<std::thread> others;
  for (int id = 1; id < threads; ++id) others.emplace_back(body, id);
  body(0);
  for (std::thread& other : others) other.join();
  double total = 0;
  for (const double rate : best) total += rate;
  return total;
}

// Twelve independent chains: more than latency times units on any of today's processors.
double fma_peak(int threads, double seconds) {
  return best_rate(threads, seconds, [](int) {
    return [] {
      constexpr int kChains = 12, kSteps = 2000;
      Vec acc[kChains], a = Vec{} + 0.999f, b = Vec{} + 0.001f;
      for (int i = 0; i < kChains; ++i) acc[i] = Vec{} + static_cast<float>(i);
      asm volatile("" : "+m"(a), "+m"(b));
      for (int s = 0; s < kSteps; ++s) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * a + b;
      }
      Vec sum = acc[0];
      for (int i = 1; i < kChains; ++i) sum += acc[i];
      asm volatile("" : : "x"(sum));
      return 2.0 * kLanes * kChains * kSteps;
    };
  });
}

// On huge pages where the system gives them.
std::shared_ptr<char> filled(size_t bytes, int value) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t room = (bytes + kPage - 1) / kPage * kPage;
  std::shared_ptr<char> memory(static_cast<char*>(std::aligned_alloc(kPage, room)), std::free);
  std::memset(memory.get(), value, bytes);
  return memory;
}

double copy_peak(int threads, size_t bytes, double seconds) {
  const size_t each = std::max<size_t>(bytes / 2 / static_cast<size_t>(threads) / 64 * 64, 64);
  return best_rate(threads, seconds, [each](int) {
    return [each, from = filled(each, 1), to = filled(each, 2)] {
      std::memcpy(to.get(), from.get(), each);
      asm volatile("" : : "r"(to.get()) : "memory");
      return 2.0 * static_cast<double>(each);
    };
  });
}

struct Time {
  double median, best;
};
Time step_time(StepByHand& net, double seconds) {
  std::vector<double> samples;
  const auto start = Clock::now();
  do {
    const auto sample = Clock::now();
    for (int i = 0; i < 50; ++i) net.step();
    samples.push_back(seconds_since(sample) / 50);
  } while (seconds_since(start) < seconds);
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return {samples[samples.size() / 2], *std::min_element(samples.begin(), samples.end())};
}

}  // namespace

int main() {
  std::string line;
  static StepByHand net;
  while (std::getline(std::cin, line)) {
    std::istringstream in(line);
    std::string command;
    int threads = 1;
    double seconds = 0;
    size_t bytes = 0;
    in >> command;
    if (command == "fma") {
      in >> threads >> seconds;
      std::printf("{\"gflops\": %.2f}\n", fma_peak(threads, seconds) / 1e9);
    } else if (command == "copy") {
      in >> threads >> bytes >> seconds;
      std::printf("{\"gbs\": %.2f}\n", copy_peak(threads, bytes, seconds) / 1e9);
    } else if (command == "step") {
      in >> seconds;
      const Time time = step_time(net, seconds);
      std::printf("{\"us\": %.4f, \"min\": %.4f, \"loss\": %.4f}\n", time.median * 1e6,
                  time.best * 1e6, static_cast<double>(net.loss()));
    } else {
      std::printf("{\"error\": \"unknown command\"}\n");
    }
    std::fflush(stdout);
  }
}
