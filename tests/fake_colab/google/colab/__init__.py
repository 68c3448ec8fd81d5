"""A stand-in for the package that Google Colab's notebooks import; only what this project uses of it.

Steered from outside: $FAKE_DRIVE=fails makes `drive.mount` fail; $FAKE_UPLOAD names the file that a
person "chooses"; what is downloaded goes to the folder $FAKE_DOWNLOADS.
"""
