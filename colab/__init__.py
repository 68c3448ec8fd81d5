"""What a Colab notebook needs: copies on Drive, pictures below a cell."""
