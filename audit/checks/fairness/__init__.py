"""Is the model fair to groups?"""
