// Batches made ahead (core/prefetch.h): rows of arrays, gathered and augmented without the
// interpreter's lock, or what a Python function makes, with the lock held for its calls only.
#include "../core/prefetch.h"

#include <pybind11/numpy.h>

#include <chrono>

#include "../core/pinned.h"
#include "augment.h"
#include "interpreter.h"

namespace fastnn {
namespace {

// Whoever lets go of it, on any thread, takes the lock for that; when the interpreter ends, nobody.
template <class T>
std::shared_ptr<T> held(T value) {
  return {new T(std::move(value)), [](T* owned) {
            if (interpreter_ends()) return;
            const py::gil_scoped_acquire gil;
            delete owned;
          }};
}

// ---- batches of arrays -------------------------------------------------------------------------

// An array that owns its memory, as NumPy's: of any dtype.
py::array to_numpy(const Array& memory, const py::dtype& dtype, std::vector<py::ssize_t> shape) {
  const py::capsule owner(new StoragePtr(memory.storage),
                          [](void* storage) { delete static_cast<StoragePtr*>(storage); });
  return {dtype, std::move(shape), {}, memory.storage->data, owner};
}
py::array to_numpy(const Array& array) {
  const auto* dims = array.shape.dims.data();
  return to_numpy(
      array, array.dtype == DType::kFloat32 ? py::dtype::of<float>() : py::dtype::of<uint8_t>(),
      {dims, dims + array.shape.ndim});
}

// An array in the order of its shape: memory of rows, whatever they hold.
struct Rows {
  py::array array;
  const void* data;
  int64_t row_bytes;

  explicit Rows(py::array a) : array(std::move(a)), data(array.data()) {
    check(array.ndim() > 0 && (array.flags() & py::array::c_style) != 0 &&
              !array.dtype().attr("hasobject").cast<bool>(),
          "prefetch: expected rows in the order of their shape that hold no objects");
    row_bytes = array.itemsize();
    for (py::ssize_t axis = 1; axis < array.ndim(); ++axis) row_bytes *= array.shape(axis);
  }
  py::array like(const Array& memory, int64_t rows) const {
    std::vector<py::ssize_t> shape(array.shape(), array.shape() + array.ndim());
    shape[0] = rows;
    return to_numpy(memory, array.dtype(), std::move(shape));
  }
};

struct Batch {
  Array x, y;
};

// What to make of rows: batch i has the samples order[i * size], ...
struct Recipe {
  Rows x;
  std::optional<Rows> y;
  Array order, pictures;  // pictures: x, where it is augmented
  int64_t size;
  std::optional<AugmentStage> stage;
  std::optional<MixStage> mixing;
  Allocate allocate;

  int64_t samples() const { return order.numel(); }
  int64_t batches() const { return ceil_div(samples(), size); }
  int64_t rows_of(int64_t batch) const { return std::min(size, samples() - batch * size); }

  Array gather(const Rows& from, const Array& cursor, int64_t rows, Allocate where) const {
    Array y = where({rows * from.row_bytes}, DType::kUInt8, Device::kCpu);
    launch({"gather", Device::kCpu, DType::kFloat32, ceil_div(rows, rows_per_task(from.row_bytes)),
            gather_cost(from, rows)},
           &Kernels::gather,
           GatherArgs{from.data, read_as<int64_t>(order), read_as<int64_t>(cursor), write(y), rows,
                      from.row_bytes});
    return y;
  }
  static double gather_cost(const Rows& from, int64_t rows) {
    return static_cast<double>(rows * from.row_bytes) * 0.1;
  }
  double cost() const {
    const int64_t rows = std::min(size, samples());
    return (y ? gather_cost(*y, rows) : 0) +
           (stage ? augment_cost(*stage, pictures, rows) : gather_cost(x, rows));
  }

  Batch make(int64_t batch) const {
    const int64_t rows = rows_of(batch);
    const Array cursor = empty({1}, DType::kInt64);
    *static_cast<int64_t*>(cursor.storage->data) = batch * size;
    Batch made;
    if (stage) {
      made.x = augment(*stage, pictures, order, cursor, rows, false, mixing ? empty : allocate);
    } else {
      made.x = gather(x, cursor, rows, allocate);
    }
    if (!y) return made;
    made.y = gather(*y, cursor, rows, mixing ? empty : allocate);
    if (mixing) {
      Array labels_of = made.y.reshaped({rows});
      labels_of.dtype = DType::kInt64;
      const auto [mixed, shares] = mix(*mixing, made.x, labels_of, order, cursor, allocate);
      made = {mixed, shares};
    }
    return made;
  }
  py::object to_python(const Batch& made, int64_t rows) const {
    const auto side = [&](const Array& array, const Rows& from, bool is_ours) -> py::object {
      return is_ours ? to_numpy(array) : from.like(array, rows);
    };
    return py::make_tuple(side(made.x, x, stage.has_value()),
                          y ? side(made.y, *y, mixing.has_value()) : py::none());
  }
};

// ---- the Python object -------------------------------------------------------------------------

using Give = std::function<py::object()>;  // to whoever asks; called with the lock
using Ahead = Prefetcher<Give>;

// One state of the interpreter for each thread of ours, from its first call to its end, so that
// what Python keeps by thread lasts. The lock is kept from call to call while there is room for
// more batches: handing it over takes longer than a small batch.
struct PythonThread {
  py::gil_scoped_acquire state;
  std::optional<py::gil_scoped_release> unlocked;
};
struct EndPythonThread {
  void operator()(PythonThread* thread) const {
    if (!interpreter_ends()) delete thread;
  }
};
thread_local std::unique_ptr<PythonThread, EndPythonThread> python_thread;

void lock_python() {
  if (python_thread != nullptr) {
    python_thread->unlocked.reset();
  } else if (PyGILState_Check() == 0) {
    python_thread.reset(new PythonThread);
  }
}
void unlock_python() {
  if (python_thread != nullptr && !python_thread->unlocked) python_thread->unlocked.emplace();
}

// Waits in turns of 50 ms, between which others run and signals are handled.
template <class Done>
void wait_until(const Done& done) {
  for (;;) {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    std::exception_ptr thrown;
    bool is_done = false;
    void* const state = interpreter_lock.release();
    try {
      is_done = done(std::chrono::milliseconds(50));
    } catch (...) {
      thrown = std::current_exception();
    }
    interpreter_lock.acquire(state);  // in no destructor: it may unwind a thread that must end
    if (thrown != nullptr) std::rethrow_exception(thrown);
    if (is_done) return;
  }
}

void close(Ahead& ahead) {
  wait_until([&](auto patience) { return ahead.stop(patience); });
  const py::gil_scoped_release released;
  ahead.close();
}

// Threads must have ended before the interpreter does: none can take its lock afterwards.
void close_all_at_exit(const std::shared_ptr<Ahead>& ahead) {
  static auto* all = new std::vector<std::weak_ptr<Ahead>>;  // guarded by the interpreter's lock
  static const bool registered = [] {
    py::module_::import("atexit").attr("register")(py::cpp_function([] {
      const auto left = std::move(*all);
      all->clear();
      for (const auto& weak : left)
        if (const auto one = weak.lock()) fastnn::close(*one);
    }));
    return true;
  }();
  static_cast<void>(registered);
  std::erase_if(*all, [](const auto& weak) { return weak.expired(); });
  all->push_back(ahead);
}

class PrefetcherObject {
 public:
  PrefetcherObject(Ahead::Make make, int64_t count, int64_t ahead) : count_(count) {
    check(ahead >= 0, "prefetch: expected ahead >= 0, got ", ahead);
    if (ahead == 0) {
      make_ = std::move(make);
    } else {
      ahead_ = std::make_shared<Ahead>(std::move(make), count, ahead, unlock_python);
      close_all_at_exit(ahead_);
    }
  }
  ~PrefetcherObject() {
    if (ahead_ == nullptr) return;
    const py::gil_scoped_release released;
    ahead_->close();
  }

  py::object get() {
    std::optional<Give> give;
    if (ahead_ != nullptr) give = ahead_->next(std::chrono::milliseconds(0));
    if (!give) {
      const auto start = std::chrono::steady_clock::now();
      give = ahead_ != nullptr ? wait() : make_now();
      waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    return (*give)();
  }
  void close() {
    if (ahead_ != nullptr) fastnn::close(*ahead_);
  }
  double waited() const { return waited_; }
  bool has_thread() const { return ahead_ != nullptr; }

 private:
  Give make_now() {
    check<PrefetchError>(done_ < count_, "prefetch: expected to be asked ", count_,
                         " times at most");
    return make_(done_++);
  }
  Give wait() const {
    std::optional<Give> give;
    wait_until([&](auto patience) {
      give = ahead_->next(patience);
      return give.has_value();
    });
    return *std::move(give);
  }

  Ahead::Make make_;
  std::shared_ptr<Ahead> ahead_;  // none: each is made when it is asked for
  int64_t count_, done_ = 0;
  double waited_ = 0;
};

std::shared_ptr<PrefetcherObject> prefetch(py::function make, int64_t count, int64_t ahead) {
  return std::make_shared<PrefetcherObject>(
      [function = held(std::move(make))](int64_t i) -> Give {
        lock_python();
        return [made = held((*function)(i))] { return *made; };
      },
      count, ahead);
}

// A batch that takes less than waking a thread is made when it is asked for, unless its rows come
// from a file.
std::shared_ptr<PrefetcherObject> prefetch_rows(py::array x, std::optional<py::array> y,
                                                const Array& order, int64_t batch_size,
                                                int64_t ahead, std::optional<AugmentStage> stage,
                                                std::optional<MixStage> mixing, bool pinned,
                                                bool from_file) {
  const Array pictures = stage ? array_from(x.ptr()) : Array();
  auto recipe = held(Recipe{Rows(std::move(x)), std::nullopt, order, pictures, batch_size,
                            std::move(stage), std::move(mixing), pinned ? empty_pinned : empty});
  if (y) recipe->y.emplace(*std::move(y));
  const int64_t count = recipe->batches();
  if (!from_file && recipe->cost() < kParallelCost) ahead = 0;
  return std::make_shared<PrefetcherObject>(
      [recipe = std::move(recipe)](int64_t i) -> Give {
        return [recipe, batch = recipe->make(i), rows = recipe->rows_of(i)] {
          return recipe->to_python(batch, rows);
        };
      },
      count, ahead);
}

// A copy in page-locked memory.
py::array pin(const py::array& array) {
  const Rows from(array);
  const auto bytes = static_cast<size_t>(array.nbytes());
  Array copy;
  {
    const py::gil_scoped_release released;
    copy = empty_pinned({array.nbytes()}, DType::kUInt8);
    std::memcpy(copy.storage->data, from.data, bytes);
  }
  return from.like(copy, array.shape(0));
}

}  // namespace

void bind_prefetch(py::module_& m) {
  py::register_exception<PrefetchError>(m, "PrefetchError", PyExc_RuntimeError);
  py::class_<PrefetcherObject, std::shared_ptr<PrefetcherObject>>(m, "Prefetcher")
      .def("get", &PrefetcherObject::get, "The next, in order; raises what making it raised.")
      .def("close", &PrefetcherObject::close, "Makes no more, and waits until the thread ended.")
      .def_property_readonly("waited", &PrefetcherObject::waited,
                             "Seconds for which get() had none ready.")
      .def_property_readonly("has_thread", &PrefetcherObject::has_thread,
                             "Whether they are made ahead.");
  m.def("prefetch", &prefetch, py::arg("make"), py::arg("count"), py::arg("ahead"),
        "make(0), make(1), ..., on a thread of its own.");
  m.def("prefetch_rows", &prefetch_rows, py::arg("x"), py::arg("y"), py::arg("order"),
        py::arg("batch_size"), py::arg("ahead"), py::arg("stage"), py::arg("mixing"),
        py::arg("pinned"), py::arg("from_file"),
        "Batches of arrays' rows, made without the interpreter's lock.");
  m.def("pin", &pin, py::arg("array"), "A copy in page-locked memory.");
}

}  // namespace fastnn
