"""Methods of captum, shap and lime: run on a copy of the model, and only where they are valid for it."""
