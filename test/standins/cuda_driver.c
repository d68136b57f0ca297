// SPDX-License-Identifier: Apache-2.0
// A stand-in for NVIDIA's driver library: its C interface, on the host's memory, without a GPU.
//
// Faithful where a mistake of the caller would show on a GPU:
// - a stream is lazy: nothing happens before cuStreamSynchronize, so a result that is read before
//   is not there yet, and a buffer that is written before is seen as it is then;
// - memory of the GPU is not the host's: its addresses lead nowhere, and start out as NaN;
// - copies must lie within one allocation, the host's side in pinned memory;
// - while a stream records, nothing runs, and to wait for it or to allocate spoils the recording;
// - a thread without a current context can do nothing.
//
// Its tests may let the n-th call fail, read the names of all calls, and count what is not freed.
// Its kernels are callbacks of the host (cuLaunchHostFunc), which run when a kernel would.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CHECK_AGAINST_CUDA_H
#include <cuda.h>
#else
typedef int CUresult, CUdevice, CUstreamCaptureMode, CUdevice_attribute;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef unsigned long long CUdeviceptr;
typedef void (*CUhostFn)(void *);
typedef unsigned long long cuuint64_t;
#define CUDAAPI
#endif

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, RECORDING = 900,
       SPOILT = 901 };
enum { BLOCKS = 64, STEPS = 64, NAMES = 1 << 16 };
static const uint64_t AWAY = 1ull << 46;  // from an address of the host to the "GPU's"

typedef struct { char kind; uint64_t address; size_t size; } Block;  // 'd' device, 'h' host
typedef struct { char kind; char *to; const char *from; size_t size; CUhostFn run; void *data; } Step;
typedef struct { int count; Step steps[STEPS]; } Steps;
struct CUstream_st { Steps queue; int recording, spoilt; Steps *recorded; };
struct CUgraph_st { Steps steps; };
struct CUgraphExec_st { Steps steps; };

static Block blocks[BLOCKS];
static int streams, graphs, launchables, context_marker;
static __thread CUcontext current;
static struct CUstream_st *only_stream;
static int fail_in, fail_with, version = 12040;
static char names[NAMES];

// What tests ask for.
void standin_reset(void) { fail_in = 0; names[0] = 0; }
void standin_fail(int in, int with) { fail_in = in; fail_with = with; }
const char *standin_calls(void) { return names; }
void standin_forget_calls(void) { names[0] = 0; }
void standin_forget_context(void) { current = NULL; }
void standin_version(int number) { version = number; }
int standin_alive(void) {
  int alive = streams + graphs + launchables;
  for (int k = 0; k < BLOCKS; k++) alive += blocks[k].kind != 0;
  return alive;
}
int standin_recording(void) { return only_stream && only_stream->recording; }
void *standin_memory(CUdeviceptr address) { return (void *)(address - AWAY); }

static int entered(const char *name, int needs_context) {
  size_t length = strlen(names);
  if (length + strlen(name) + 2 < NAMES) sprintf(names + length, "%s ", name);
  if (fail_in && !--fail_in) return fail_with;
  return needs_context && !current ? NO_CONTEXT : OK;
}
#define ENTER(needs_context) \
  do { int status = entered(__func__, needs_context); if (status) return status; } while (0)

static int within(char kind, uint64_t address, size_t size) {
  for (int k = 0; k < BLOCKS; k++)
    if (blocks[k].kind == kind && blocks[k].address <= address &&
        address + size <= blocks[k].address + blocks[k].size)
      return 1;
  return 0;
}
int standin_has(CUdeviceptr address, size_t size) { return within('d', address, size); }
static CUresult make_block(char kind, size_t size, uint64_t *address) {
  if (only_stream && only_stream->recording) { only_stream->spoilt = 1; return RECORDING; }
  if (size == 0) return INVALID_VALUE;
  for (int k = 0; k < BLOCKS; k++) {
    if (blocks[k].kind) continue;
    void *memory = aligned_alloc(512, (size + 511) / 512 * 512);
    if (!memory) return OUT_OF_MEMORY;
    memset(memory, 0xff, size);
    *address = (uint64_t)memory + (kind == 'd' ? AWAY : 0);
    blocks[k] = (Block){kind, *address, size};
    return OK;
  }
  return OUT_OF_MEMORY;
}
static CUresult drop_block(char kind, uint64_t address) {
  for (int k = 0; k < BLOCKS; k++)
    if (blocks[k].kind == kind && blocks[k].address == address) {
      free((void *)(address - (kind == 'd' ? AWAY : 0)));
      blocks[k].kind = 0;
      return OK;
    }
  return INVALID_VALUE;
}
static CUresult enqueue(CUstream stream, Step step) {
  if (!stream) return INVALID_VALUE;
  Steps *steps = stream->recording ? stream->recorded : &stream->queue;
  if (steps->count == STEPS) return OUT_OF_MEMORY;
  steps->steps[steps->count++] = step;
  return OK;
}

CUresult CUDAAPI cuInit(unsigned int flags) { ENTER(0); return flags ? INVALID_VALUE : OK; }
CUresult CUDAAPI cuDriverGetVersion(int *number) { ENTER(0); *number = version; return OK; }
CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) { ENTER(0); *device = 7; return ordinal ? INVALID_VALUE : OK; }
CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device) {
  ENTER(0);
  snprintf(name, length, "Stand-in");
  return device == 7 ? OK : INVALID_VALUE;
}
CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  ENTER(0);
  *value = attribute == 75 ? 8 : attribute == 76 ? 6 : -1;
  return device == 7 ? OK : INVALID_VALUE;
}
CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ENTER(0);
  *context = (CUcontext)&context_marker;
  return device == 7 ? OK : INVALID_VALUE;
}
CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  ENTER(0);
  current = context;
  return context == (CUcontext)&context_marker ? OK : INVALID_VALUE;
}
CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
  ENTER(1);
  uint64_t found;
  CUresult status = make_block('d', size, &found);
  if (!status) *address = found;
  return status;
}
CUresult CUDAAPI cuMemFree_v2(CUdeviceptr address) { ENTER(1); return drop_block('d', address); }
CUresult CUDAAPI cuMemHostAlloc(void **address, size_t size, unsigned int flags) {
  ENTER(1);
  uint64_t found;
  CUresult status = flags ? INVALID_VALUE : make_block('h', size, &found);
  if (!status) *address = (void *)found;
  return status;
}
CUresult CUDAAPI cuMemFreeHost(void *address) { ENTER(1); return drop_block('h', (uint64_t)address); }
CUresult CUDAAPI cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
  ENTER(1);
  if (!within('d', to, size) || !within('h', (uint64_t)from, size)) return INVALID_VALUE;
  return enqueue(stream, (Step){'c', standin_memory(to), from, size, NULL, NULL});
}
CUresult CUDAAPI cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream) {
  ENTER(1);
  if (!within('d', from, size) || !within('h', (uint64_t)to, size)) return INVALID_VALUE;
  return enqueue(stream, (Step){'c', to, standin_memory(from), size, NULL, NULL});
}
CUresult CUDAAPI cuLaunchHostFunc(CUstream stream, CUhostFn run, void *data) {
  ENTER(1);
  return enqueue(stream, (Step){'k', NULL, NULL, 0, run, data});
}
CUresult CUDAAPI cuStreamCreate(CUstream *stream, unsigned int flags) {
  ENTER(1);
  if (flags != 1) return INVALID_VALUE;
  *stream = only_stream = calloc(1, sizeof **stream);
  streams++;
  return OK;
}
CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  ENTER(1);
  if (stream->recording) { stream->spoilt = 1; return RECORDING; }
  for (int k = 0; k < stream->queue.count; k++) {
    Step *step = &stream->queue.steps[k];
    if (step->kind == 'k') step->run(step->data);
    else memcpy(step->to, step->from, step->size);
  }
  stream->queue.count = 0;
  return OK;
}
CUresult CUDAAPI cuStreamDestroy_v2(CUstream stream) {
  ENTER(1);
  if (only_stream == stream) only_stream = NULL;
  free(stream);
  streams--;
  return OK;
}
CUresult CUDAAPI cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  ENTER(1);
  if (mode != 1 || stream->recording || stream->queue.count) return INVALID_VALUE;
  stream->recording = 1;
  stream->spoilt = 0;
  stream->recorded = calloc(1, sizeof(Steps));
  return OK;
}
CUresult CUDAAPI cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  ENTER(1);
  if (!stream->recording) return SPOILT;
  stream->recording = 0;
  *graph = NULL;
  if (!stream->spoilt) {
    *graph = malloc(sizeof **graph);
    (*graph)->steps = *stream->recorded;
    graphs++;
  }
  free(stream->recorded);
  return stream->spoilt ? SPOILT : OK;
}
CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *launchable, CUgraph graph, unsigned long long flags) {
  ENTER(1);
  if (flags || !graph) return INVALID_VALUE;
  *launchable = malloc(sizeof **launchable);
  (*launchable)->steps = graph->steps;
  launchables++;
  return OK;
}
CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
  ENTER(1);
  if (!graph) return INVALID_VALUE;
  free(graph);
  graphs--;
  return OK;
}
CUresult CUDAAPI cuGraphLaunch(CUgraphExec launchable, CUstream stream) {
  ENTER(1);
  for (int k = 0; k < launchable->steps.count; k++) {
    CUresult status = enqueue(stream, launchable->steps.steps[k]);
    if (status) return status;
  }
  return OK;
}
CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec launchable) {
  ENTER(1);
  free(launchable);
  launchables--;
  return OK;
}
CUresult CUDAAPI cuGetErrorName(CUresult error, const char **text) {
  *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OTHER";
  return OK;
}
CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text) {
  *text = error == OUT_OF_MEMORY ? "out of memory" : "something else";
  return OK;
}
