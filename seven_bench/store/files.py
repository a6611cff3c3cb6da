"""The names of the files in a run's folder."""

RECORD = "result.json"  # present only when the run is complete
STATUS = "status.json"
LOCK = ".lock"
CONFIG = "config.yaml"
MASKS = "masks.safetensors"
MODEL = "model.safetensors"  # the final effective weights
CURVES = "metrics.csv"
REWIND = "rewind.safetensors"  # weights of a step that rounds go back to
CHECKPOINT = "last.ckpt"  # while the run is at work
SENTINELS = "sentinels.json"  # an analysis made later
PREDICTIONS = "predictions.safetensors"  # what was predicted for each scored example
TRIALS = "trials.journal"  # in a folder of tuning: what lies below it are trials, and no results
PACKED = "model.packed.safetensors"
CSR = "model.csr.safetensors"
ONNX = "model.onnx"
HF = "hf"  # a folder that transformers or timm open
SMALLER = "model.smaller.safetensors"
PROGRAM = "model.smaller.pt2"
ORDINARY = "model.smaller"  # a folder

#: What every complete run has.
NEEDED = (CONFIG, MASKS, MODEL)
#: What a record seals, where it is there. What is made later stands by itself.
SEALED = (*NEEDED, CURVES, REWIND, PREDICTIONS)
#: Sealed files that readers look at by size, and read in full only where they use them.
LARGE = (MODEL, REWIND)
