#!/usr/bin/env bash
# Correct the rare classes of a model, and let it pass only if it is good enough.
#
#   MODEL=model.safetensors BACKBONE=timm:resnet18 DATA=data bash pipeline.sh
#
# Exit code 3 says that a limit was not met; nothing is written to OUTPUT then. What is up to
# date in RUN is not made again, so a build that keeps RUN between its runs extracts only once.
#
#   MODEL              the model file                                 (needed)
#   BACKBONE           its architecture, as for `alphafix extract`    (needed)
#   DATA               folder with train, val and test                (needed)
#   OUTPUT             folder of the corrected model                  [release]
#   RUN                run directory                                  [alphafix-run]
#   RHO                base samples per few-split sample              [0.5]
#   MIN_FEW_GAIN       points that the few split must gain            [5]
#   MAX_OVERALL_DROP   points that may be lost overall                [2]
set -euo pipefail

: "${MODEL:?the model file}" "${BACKBONE:?its architecture}" "${DATA:?folder of the images}"
output=${OUTPUT:-release}
export ALPHAFIX_RUN=${RUN:-alphafix-run}

alphafix extract --backbone "$BACKBONE" --weights "$MODEL" --data "$DATA"
alphafix neighbors
alphafix train --rho "${RHO:-0.5}"

# The gate. Its reports are for the build's page, whether it is met or not.
code=0
alphafix evaluate \
    --min-few-gain "${MIN_FEW_GAIN:-5}" --max-overall-drop "${MAX_OVERALL_DROP:-2}" \
    --junit "$ALPHAFIX_RUN/gates.xml" --markdown "$ALPHAFIX_RUN/summary.md" || code=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$ALPHAFIX_RUN/summary.md" ]; then
    cat "$ALPHAFIX_RUN/summary.md" >>"$GITHUB_STEP_SUMMARY"
fi
if [ "$code" != 0 ]; then
    exit "$code"
fi

mkdir -p "$output"
alphafix patch "$MODEL" --overwrite --output "$output/$(basename "$MODEL")" --card "$output/CARD.md"
