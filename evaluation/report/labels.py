"""The labels of the ids of sections, splits, baselines and corruptions. Nothing is looked up by these texts."""

TITLES = {  # of sections
    "cycle": "The cycle",
    "real_text": "Real sentences",
    "captioners": "Can it be learned?",
    "robustness": "Robustness, or is it steganography?",
    "scenes": "Objects in scenes",
    "legibility": "Can a person read it?",
    "structure": "Language structure",
    "meaning": "Meaning of words",
    "bottleneck": "Bottleneck and diversity",
    "alphabet": "The alphabet",
    "language_model": "The language model",
    "coherence": "Coherence",
    "real_pictures": "Real pictures",
}

# What each section measures, in a sentence or two for people who see it for the first time
EXPLAINED = {
    "cycle": (
        "Sentences that do not occur in training are drawn, saved as PNG files, and read by the model's own captioner."
    ),
    "real_text": (
        "Texts as people type them: how well capitals, punctuation and rare words are read, and whether the "
        "captioner reads the picture or guesses from grammar. Shuffled words (word salad) cannot be guessed. "
        "Then one word of a sentence is swapped, and the glyphs of a word in forty sentences are compared."
    ),
    "scenes": (
        "Measured from the pixels of the picture, without the model: the number of objects, and which "
        "property of which object changes when one word is swapped."
    ),
    "legibility": (
        "Could a person without the trained captioner read the pictures? A naive reader, a simple classifier "
        "that stands for a person, learns from four pictures of each word. Then one word of a sentence is "
        "swapped, and the change of the picture is measured."
    ),
    "robustness": (
        "A picture is corrupted before it is read. A code hidden in fine texture is destroyed by mild "
        "corruptions; visible shapes and colors are not."
    ),
    "structure": (
        "Do similar sentences have similar pictures, and does each part of a picture show one part of the sentence?"
    ),
    "meaning": (
        "Can a word be found in a picture by a linear rule, and are pictures that share a word more alike than others?"
    ),
    "bottleneck": "How much of a sentence passes through its picture, and how many different pictures there are.",
    "alphabet": (
        "Scenes of this model are lists of codes: how many codes are in use, whether each belongs to one "
        "word, and the length of a list beside that of its sentence, in bits."
    ),
    "language_model": "The perplexity of the language model on unseen sentences, and sentences that it invents.",
    "coherence": (
        "Whether pictures are made of shapes or of fine texture. Neither end is better; the baselines show the scale."
    ),
    "real_pictures": (
        "How scenes differ from real pictures of the same size, and whether the model recognizes that such a "
        "picture is not a scene of its own: it draws the caption again and compares. A captioner has a "
        "caption for every picture."
    ),
    "captioners": (
        "The scene decoder is frozen, and new captioners are trained on its pictures. A language that is easy "
        "to learn is learned in few steps."
    ),
}

SPLITS = {
    "test": "sentences that do not occur in training",
    "test_pairs": "pairs of color and object that do not occur in training",
    "test_ood": "words that occur in training with few partners, with new partners",
    "test_frames": "combinations of parts that do not occur in training",
}

BASELINES = {
    "this_model": "this model",
    "random_decoder": "random scene decoder",
    "hand_made": "hand-made renderer",
    "random_decoder/fresh_captioner": "random scene decoder, fresh captioner",
    "hand_made/fresh_captioner": "hand-made renderer, fresh captioner",
    "chance": "chance",
    "majority": "majority",
    "blank_picture": "blank picture",
    "other_picture": "another sentence's picture",
    "binary_code": "binary code baseline",
    "uncorrupted": "uncorrupted",
    "white_noise": "white noise",
    "shuffled_pictures": "pictures shuffled",
    "shuffled_words": "words shuffled",
    "other_pairs": "other pairs",
    "other_words": "glyphs of other words",
    "whole_text": "all of the text",
    "one_picture": "one picture",
    "mode_collapse": "mode collapse",
    "all_latents": "all",
    "grammar": "the grammar itself",
    "captions_file": "the file itself",
    "random_words": "random words",
    "one_sentence": "one sentence",
    "real_pictures": "real pictures",
    "real_halves": "halves of the real pictures",
    "edit_distance": "edit distance of the captions",
    "own_halves": "halves of own scenes",
    "own_scenes": "own scenes",
    "shuffled_blocks": "own scenes, squares shuffled",
    "other_models": "scenes of other models",
    "log_prob": "log probability of the caption",
    "log_prob_per_word": "the same per word",
    "code_a_word": "if each word had a code of its own",
    "all_codes": "all codes equally common",
    "words": "the words themselves",
    "language_model": "the sentence, by the language model",
}


CORRUPTIONS = {  # with the unit of the strength
    "jpeg": "JPEG quality",
    "blur": "blur σ, px",
    "noise": "noise σ",
    "resample": "scaled down to, px",
    "brightness": "brightness ×",
    "shift": "shift, px",
    "rotation": "rotation, °",
    "patch": "gray patch, px",
    "hue": "hue turned by, °",
    "bits": "bits a channel",
    "low_pass": "only what a blur leaves, σ px",
    "high_pass": "only what a blur removes, σ px",
}
