# model.mk - gantry-mini from nothing: corpus, vocabulary, training, quantizing; included by the
# Makefile.  Everything is made in build/gantry-mini.
#   make model          all of it (the training takes hours), and is it the committed file?
#   make model-accept   commit what `make model` has made: copies file and hash
#   make eval-model     asks the built binary the questions of eval.jsonl; exit 1 below a bar
#   make check-model    is the committed file whole, and the corpus the one it is said to be?
MINI      := models/gantry-mini
MINI_OUT  := build/gantry-mini
MINI_FILE := $(MINI)/gantry-mini.gguf
MINI_CKPT := $(MINI_OUT)/checkpoint.bin

$(MINI_OUT)/train.jsonl: $(MINI)/generate.py $(wildcard $(MINI)/corpus/*.py $(MINI)/facts/*)
	@mkdir -p $(@D)
	python3 -B $(MINI)/generate.py --out $(@D)
$(MINI_OUT)/eval.jsonl: $(MINI_OUT)/train.jsonl ;

# Binaries stand behind a |: a newer trainer is no reason to train again.
$(MINI_OUT)/vocab.gguf: $(MINI_OUT)/train.jsonl $(MINI)/template.jinja | $(B)/gantry-train
	$(B)/gantry-train bpe --corpus $< --chat-template $(MINI)/template.jinja --vocab 2048 --letters-apart \
	    --special '<|endoftext|>,<|im_start|>,<|im_end|>' \
	    --user-defined '<tool_call>,</tool_call>,<tool_response>,</tool_response>,<tools>,</tools>' \
	    --bos '<|endoftext|>' --eos '<|im_end|>' --eot '<|im_end|>' -o $@

# A checkpoint that is older than the vocabulary belongs to an earlier training.
$(MINI_OUT)/gantry-mini-f32.gguf: $(MINI_OUT)/vocab.gguf $(MINI)/train.conf | $(B)/gantry-train
	@[ ! -e $(MINI_CKPT) ] || [ $(MINI_CKPT) -nt $< ] || mv $(MINI_CKPT) $(MINI_CKPT).old
	$(B)/gantry-train run --config $(MINI)/train.conf --corpus $(MINI_OUT)/train.jsonl --tok $< \
	    --checkpoint $(MINI_CKPT) $$([ ! -e $(MINI_CKPT) ] || echo --resume) --out $@

$(MINI_OUT)/gantry-mini.gguf: $(MINI_OUT)/gantry-mini-f32.gguf | $(B)/$(NAME)
	$(B)/$(NAME) quantize $< $@ Q8_0

model: $(MINI_OUT)/gantry-mini.gguf
	@made=$$(sha256sum < $< | cut -d' ' -f1) want=$$(cut -d' ' -f1 $(MINI_FILE).sha256); \
	if [ "$$made" = "$$want" ]; then echo "model: $< is the committed file, sha256 $$made"; \
	else echo "model: $< is another one: sha256 $$made, committed $$want (make model-accept takes it)" >&2; exit 1; fi

model-accept:
	cp $(MINI_OUT)/gantry-mini.gguf $(MINI_FILE)
	cd $(MINI) && sha256sum $(notdir $(MINI_FILE)) > $(notdir $(MINI_FILE)).sha256

eval-model: $(B)/$(NAME) $(MINI_OUT)/eval.jsonl
	sh $(MINI)/eval.sh $(B)/$(NAME) $(MINI_OUT)/eval.jsonl

check-model:
	@sh $(MINI)/check.sh $(MINI_OUT)
check: check-model
lint-house: lint-facts
lint-facts:
	@command -v python3 >/dev/null || { echo "lint-facts: skipped, python3 is not installed"; exit 0; }; \
	python3 -B $(MINI)/check_facts.py

.PHONY: model model-accept eval-model check-model lint-facts
