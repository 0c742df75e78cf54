"""Why does the model answer as it does?"""
